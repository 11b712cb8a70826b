from __future__ import annotations

import pytest

from r1prov.errors import ChangedWhileReading, LimitExceeded, NotFound, Unreadable
from r1prov.stores.base import read_small
from r1prov.stores.local import LocalStore


def test_reads_up_to_the_cap_and_not_beyond(tmp_path):
    (tmp_path / "config.json").write_bytes(b"12345")
    (tmp_path / "empty").touch()
    store = LocalStore(tmp_path)
    assert read_small(store, "config.json", 5) == b"12345"
    assert read_small(store, "empty", 0) == b""
    with pytest.raises(LimitExceeded, match="5 bytes, more than the 4") as caught:
        read_small(store, "config.json", 4)
    assert caught.value.subject == "config.json"
    with pytest.raises(NotFound):
        read_small(store, "absent", 4)


@pytest.mark.parametrize("data", [b"1234", b"123456"], ids=["shrank", "grew"])
def test_a_file_of_another_size_than_it_had_when_opened(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(b"12345")

    class Racing(LocalStore):
        def open(self, name):
            blob = super().open(name)
            path.write_bytes(data)
            return blob

    with pytest.raises(ChangedWhileReading):
        read_small(Racing(tmp_path), "x", 100)


def test_an_os_error_of_a_store_becomes_unreadable(tmp_path):
    class Broken(LocalStore):
        def open(self, name):
            raise OSError(5, "Input/output error")

    with pytest.raises(Unreadable, match="Input/output error"):
        read_small(Broken(tmp_path), "x", 1)
