"""Other hashes, and a hash a piece, in the pass that computes SHA-256."""

from __future__ import annotations

import builtins
import hashlib
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import UsageError
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.hashing.pieces import DIGEST_BYTES, PieceHasher, PieceHashing
from r1prov.limits import HASH_BUFFER_BYTES
from r1prov.stores.local import LocalStore

MAKE: dict[str, Any] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b, "blake3": blake3}


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
@given(data=st.binary(max_size=40), size=st.none() | st.integers(1, 50), cut=st.integers(1, 50))
def test_pieces(algorithm: str, data: bytes, size: int | None, cut: int) -> None:
    hasher = PieceHasher(PieceHashing(algorithm, size))
    for start in range(0, len(data), cut):
        hasher.update(memoryview(data)[start : start + cut])
    pieces = [data] if size is None else [data[i : i + size] for i in range(0, len(data), size)]
    wanted = tuple(MAKE[algorithm](piece).digest() for piece in pieces)
    assert hasher.digests() == wanted
    assert all(len(one) == DIGEST_BYTES[algorithm] for one in wanted)


def test_beside_the_sha256_of_the_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * (HASH_BUFFER_BYTES // 128)
    (tmp_path / "big").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    size = HASH_BUFFER_BYTES - 1
    how = PieceHashing("blake3", size)
    jobs = [HashJob("big", len(content), pieces=how), HashJob("empty", 0, pieces=how)]
    found = hash_blobs(LocalStore(tmp_path).open, jobs).digests
    assert found["big"].sha256 == hashlib.sha256(content).hexdigest()
    assert found["big"].pieces == tuple(
        blake3(content[i : i + size]).digest() for i in range(0, len(content), size)
    )
    assert found["empty"].pieces == ()
    assert (
        hash_blobs(LocalStore(tmp_path).open, [HashJob("empty", 0)]).digests["empty"].pieces == ()
    )


def test_a_missing_package_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "blake3":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError) as caught:
        PieceHashing("blake3")
    assert caught.value.hint == "install r1prov[blake3]"
    assert PieceHashing("blake2b").size is None
