"""The archive: what is written opens anywhere, and nothing else is read."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import EvidenceError, InputError, LimitExceeded
from r1prov.evidence import archive
from r1prov.evidence.archive import read_archive, write_archive

MEMBERS = {"evidence/a.json": b"{}", "evidence/data/b.bin": bytes(range(256))}
NAME = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}(/[a-z]{1,4}){0,3}", fullmatch=True)


def refused(raw: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_archive(raw, subject="b.zip")
    assert caught.value.exit_code == 4
    return caught.value.message


def made(*entries: tuple[str, bytes], **how: Any) -> bytes:
    """An archive by the standard library, which takes nearly anything."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = how.get("attributes", 0)
            info.compress_type = how.get("method", zipfile.ZIP_STORED)
            info.extra = how.get("extra", b"")
            file.writestr(info, data)
        file.comment = how.get("comment", b"")
    return out.getvalue()


def test_what_is_written_opens_with_the_standard_library_and_reads_back() -> None:
    raw = write_archive(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS
        assert {one.date_time for one in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert read_archive(raw, subject="b.zip") == MEMBERS


@given(st.dictionaries(NAME, st.binary(max_size=64), min_size=1, max_size=6))
def test_one_set_of_members_has_one_archive(members: dict[str, bytes]) -> None:
    raw = write_archive(members)
    assert write_archive(dict(reversed(members.items()))) == raw
    if len({name.casefold() for name in members}) == len(members):
        assert read_archive(raw, subject="b.zip") == members


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_whatever_comes_in_only_our_errors_come_out(data: bytes) -> None:
    for raw in (data, b"PK\3\4" + data, write_archive(MEMBERS)[:-22] + data):
        try:
            members = read_archive(raw, subject="b.zip")
        except InputError:
            continue
        assert write_archive(members) == raw


def test_no_byte_is_free() -> None:
    raw = write_archive(MEMBERS)
    for at in range(len(raw)):
        for bit in (1, 0x80):
            altered = bytearray(raw)
            altered[at] ^= bit
            refused(bytes(altered))


def test_a_damaged_member_is_named() -> None:
    raw = bytearray(write_archive(MEMBERS))
    raw[raw.index(bytes(range(256))) + 7] ^= 1
    assert "evidence/data/b.bin" in refused(bytes(raw))
    assert "damaged" in refused(bytes(raw))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../x", "leaves the folder"),
        ("/etc/passwd", "no relative path"),
        ("C:/x", "no relative path"),
        ("evidence/../../x", "leaves the folder"),
        ("evidence//x", "empty part"),
        ("evidence/./x", "leaves the folder"),
        ("evidence\\x", "no relative path"),
        ("evidence/x/", "directories"),
        ("evidence/\x1b]0;pwned", "letters"),
        ("evidence/.bashrc", "letters"),
        ("evidence/\u202e", "letters"),
        ("a" * 300, "letters"),
    ],
)
def test_names_that_lead_elsewhere(name: str, says: str) -> None:
    message = refused(made((name, b"x")))
    assert says in message
    assert "\x1b" not in message
    with pytest.raises(EvidenceError):
        write_archive({name: b"x"})


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (made(("a", b"x"), attributes=0o120777 << 16), "symbolic link"),
        (made(("a", b"x"), attributes=0o020666 << 16), "special file"),
        (made(("a", b"x"), attributes=0o040755 << 16), "a directory"),
        (made(("a", bytes(10_000_000)), method=zipfile.ZIP_DEFLATED), "compressed (method 8"),
        (made(("a", b"x" * 100), method=zipfile.ZIP_BZIP2), "compressed (method 12"),
        (made(("a", b"x" * 100), method=zipfile.ZIP_LZMA), "compressed (method 14"),
        (made(("a", b"x"), comment=b"note"), "follow the end record"),
        (made(("a", b"x"), extra=struct.pack("<HH", 1, 0)), "extra fields"),
        (made(("a", b"x"), ("A", b"y")), "letter case only"),
        (made(("a", b"x")), "is not as r1prov writes it"),
        (made(("b", b"x"), ("a", b"y")), "is not as r1prov writes it"),
        (b"", "does not begin with a member"),
        (b"PK\5\6" + bytes(18), "does not begin with a member"),
        (b"#!/bin/sh\n" + write_archive(MEMBERS), "does not begin with a member"),
        (write_archive(MEMBERS) + b"\0", "follow the end record"),
        (write_archive(MEMBERS)[:-1], "follow the end record"),
        (write_archive(MEMBERS)[:-40], "no end record"),
    ],
)
def test_archives_of_others(raw: bytes, says: str) -> None:
    assert says in refused(raw)


def test_the_same_name_twice() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        raw = made(("a", b"x"), ("a", b"y"))
    assert "twice" in refused(raw)


def central(raw: bytes, at: int, value: int, kind: str = "<H") -> bytes:
    """A field of the first entry of the directory, set."""
    start = raw.index(b"PK\1\2")
    altered = bytearray(raw)
    struct.pack_into(kind, altered, start + at, value)
    return bytes(altered)


@pytest.mark.parametrize(
    ("at", "value", "kind", "says"),
    [
        (8, 1, "<H", "encrypted"),
        (8, 1 << 6, "<H", "encrypted"),
        (8, 8, "<H", "flags"),
        (10, 8, "<H", "compressed"),
        (16, 1, "<I", "CRC"),
        (20, 0xFFFFFFFF, "<I", "ZIP64"),
        (24, 1, "<I", "two sizes"),
        (42, 5, "<I", "begin at byte 5"),
    ],
)
def test_a_directory_that_says_something_else(at: int, value: int, kind: str, says: str) -> None:
    assert says in refused(central(write_archive(MEMBERS), at, value, kind))


def test_entries_that_share_one_content() -> None:
    """The overlap bomb: many entries of the directory, one content (Fifield 2019)."""
    one = write_archive({"a": bytes(1000)})
    start = one.index(b"PK\1\2")
    entry = one[start:-22]
    for names in ((b"a", b"b", b"c"),):
        directory = b"".join(entry[:46] + name for name in names)
        end = struct.pack(
            "<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), start, 0
        )
        assert "ends at 1,031" in refused(one[:start] + directory + end)


def test_zip64_and_volumes() -> None:
    raw = write_archive(MEMBERS)
    for at, value, kind in ((-12, 0xFFFF, "<H"), (-10, 0xFFFFFFFF, "<I")):
        altered = bytearray(raw)
        struct.pack_into(kind, altered, len(raw) + at, value)
        assert "ZIP64" in refused(bytes(altered))
    altered = bytearray(raw)
    struct.pack_into("<H", altered, len(raw) - 18, 1)
    assert "volumes" in refused(bytes(altered))
    locator = raw[:-22] + b"PK\6\7" + bytes(16) + raw[-22:]
    assert "ZIP64" in refused(locator)


def test_a_gap_between_members_and_directory() -> None:
    raw = write_archive(MEMBERS)
    start = raw.index(b"PK\1\2")
    altered = bytearray(raw[:start] + b"hidden" + raw[start:])
    struct.pack_into("<I", altered, len(altered) - 6, start + 6)
    assert "6 bytes between" in refused(bytes(altered))


def test_a_tar_is_named() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        info = tarfile.TarInfo("../x")
        info.type, info.linkname = tarfile.LNKTYPE, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(EvidenceError) as caught:
        read_archive(out.getvalue(), subject="b.tar")
    assert caught.value.hint is not None
    assert "tar archives are not read" in caught.value.hint


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("../x", "/tmp/r1prov-pwned", "x"):
        refused(made((name, b"x")))
    assert os.listdir(tmp_path) == []
    assert not (tmp_path.parent / "x").exists()
    assert not os.path.lexists("/tmp/r1prov-pwned")


def test_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_archive(MEMBERS)
    monkeypatch.setattr(archive, "MAX_EVIDENCE_MEMBERS", 1)
    with pytest.raises(LimitExceeded):
        read_archive(raw, subject="b.zip")
    with pytest.raises(LimitExceeded):
        write_archive(MEMBERS)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_EVIDENCE_BYTES", 10)
    with pytest.raises(LimitExceeded):
        read_archive(raw, subject="b.zip")
    with pytest.raises(LimitExceeded):
        write_archive(MEMBERS)


# ------------------------------------------------------------------ more that others write


def patched(raw: bytes, at: int, data: bytes) -> bytes:
    return raw[:at] + data + raw[at + len(data) :]


def test_data_descriptors_and_streams() -> None:
    """Sizes behind the content (APPNOTE 4.3.9), where who streams and who seeks read two things."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    out = Stream()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(zipfile.ZipInfo("a"), b"x" * 50)
    assert b"PK\7\10" in out.data
    assert "CRC is `0` before the content" in refused(bytes(out.data))


def test_a_name_in_an_extra_field() -> None:
    """Info-ZIP Unicode Path (0x7075): another name for those who read it (APPNOTE 4.6.9)."""
    name = b"../../etc/passwd"
    field = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, 0) + name
    assert "extra" in refused(made(("a", b"x"), extra=field))


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        ("evidence/data/Straße", "evidence/data/STRASSE", "letters"),
        ("evidence/data/\u00e9", "evidence/data/e\u0301", "letters"),
        ("evidence/data/ﬁle", "evidence/data/file", "letters"),
        ("evidence/data/x", "evidence/DATA/x", "letter case only"),
        ("evidence/data/x", "evidence/data/x ", "letters"),
    ],
)
def test_names_that_fall_together_elsewhere(one: str, two: str, says: str) -> None:
    assert says in refused(made((one, b"1"), (two, b"2")))


def test_an_archive_that_holds_itself() -> None:
    """A quine unpacks into itself for ever; here nothing is unpacked and nothing inside is read."""
    inner = write_archive(MEMBERS)
    nested = write_archive({"evidence/data/inner.zip": inner})
    assert read_archive(nested, subject="b.zip") == {"evidence/data/inner.zip": inner}
    assert "does not reach the end record" in refused(inner + nested)
    assert "does not begin with a member" in refused(b"MZ" + nested)


def test_zip64_lies() -> None:
    """Sizes of 2^64 in extra fields, a locator, a record with another count (APPNOTE 4.3.14)."""
    raw = write_archive(MEMBERS)
    for at in (20, 24, 42):
        assert "ZIP64" in refused(central(raw, at, 0xFFFFFFFF, "<I"))
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, 1 << 60, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(raw) - 22, 1)
    assert "ZIP64" in refused(raw[:-22] + record + locator + raw[-22:])


def test_more_entries_than_bytes() -> None:
    raw = write_archive(MEMBERS)
    for count in (3, 0xFFFE):
        altered = bytearray(raw)
        struct.pack_into("<2H", altered, len(raw) - 14, count, count)
        refused(bytes(altered))
    for at, value in ((-10, 1 << 31), (-6, 1 << 31), (-6, 0)):
        altered = bytearray(raw)
        struct.pack_into("<I", altered, len(raw) + at, value)
        refused(bytes(altered))


def test_a_length_that_leads_out_of_the_file() -> None:
    raw = write_archive(MEMBERS)
    for at, kind in ((28, "<H"), (30, "<H"), (32, "<H"), (20, "<I"), (24, "<I"), (42, "<I")):
        for value in (1, 0xFFFE, 0x7FFFFFFF):
            if kind == "<I" or value <= 0xFFFF:
                refused(central(raw, at, value, kind))
    for at, kind in ((18, "<I"), (22, "<I"), (26, "<H"), (28, "<H")):
        refused(patched(raw, at, struct.pack(kind, 0xFFFE)))


MEASURE = """
import io, resource, struct, sys, zipfile
from r1prov.evidence.archive import read_archive, write_archive
from r1prov.errors import InputError

def archive(method, count):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number in range(count):
            data = b"" if count > 1 else bytes(1 << 26)
            file.writestr(zipfile.ZipInfo(f"a{number}"), data, method)
    return out.getvalue()

bomb = archive(zipfile.ZIP_DEFLATED, 1)
many = archive(zipfile.ZIP_STORED, 25_000)
large = write_archive({"evidence/data/x": bytes(48 << 20)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for raw in (bomb, many):
    try:
        read_archive(raw, subject="b")
    except InputError:
        continue
    sys.exit("taken")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
read_archive(large, subject="b")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_is_that_of_the_file() -> None:
    """A refusal takes next to nothing, and a bundle its own size once more."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    refusals, taken = map(int, done.stdout.split())
    assert refusals <= 16
    assert taken <= 48 + 16
