"""The ZIP archive of a bundle: one writer, and a reader that takes nothing else.

Written by hand, after APPNOTE.TXT 6.3.10 (§4.3.7 local header, §4.3.12 central directory, §4.3.16
end record), because one set of members must give one text, whatever version of Python or zlib is
at work: members are stored, in order of their names, with one time. Any ZIP tool opens it. The
reader takes an archive only if writing its members again gives the same bytes, so that there is no
byte in it that could be changed unseen. Members are stored, so nothing is ever inflated.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from r1prov.errors import EvidenceError, LimitExceeded
from r1prov.limits import MAX_EVIDENCE_BYTES, MAX_EVIDENCE_MEMBERS
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_ZIP64_LOCATOR: Final = b"PK\6\7"
_EPOCH: Final = (0, 0x21)  # 1980-01-01 00:00, the first that the format knows
_VERSION: Final = 20
_UNIX: Final = 3 << 8
_MODE: Final = 0o100644 << 16
_ENCRYPTED: Final = 1 | 1 << 6 | 1 << 13
_ZIP64: Final = 0xFFFFFFFF
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,7}")
_MAX_NAME: Final = 255


class _Entry(NamedTuple):
    """What the central directory says of a member, as it stands there."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    extra: int
    comment: int
    attributes: int
    offset: int


def write_archive(members: Mapping[str, bytes]) -> bytes:
    """An archive of these members: the same bytes for the same members.

    Raises:
        EvidenceError: A name that no member may have.
        LimitExceeded: Too many members, or too large.
    """
    if len(members) > MAX_EVIDENCE_MEMBERS:
        raise LimitExceeded(
            f"{len(members):,} members; the cap is {MAX_EVIDENCE_MEMBERS:,}",
            hint="leave parts out: --exclude",
        )
    total = sum(map(len, members.values()))
    if total > MAX_EVIDENCE_BYTES:
        raise LimitExceeded(
            f"the bundle would have {total:,} bytes; the cap is {MAX_EVIDENCE_BYTES:,}",
            hint="leave parts out: --exclude",
        )
    for name in members:
        fault = _name_fault(name)
        if fault is not None:
            raise EvidenceError(f"a member cannot be called {quoted(name)}: {fault}")
    return b"".join(_pieces(members))


def _pieces(members: Mapping[str, bytes]) -> Iterator[bytes]:
    """What an archive of these members consists of, in order; contents are not copied."""
    directory = bytearray()
    at = 0
    for name in sorted(members):
        data, raw = members[name], name.encode("ascii")
        shared = (0, 0, *_EPOCH, zlib.crc32(data), len(data), len(data), len(raw), 0)
        directory += _CENTRAL.pack(
            _CENTRAL_MAGIC, _UNIX | _VERSION, _VERSION, *shared, 0, 0, 0, _MODE, at
        )
        directory += raw
        header = _LOCAL.pack(_LOCAL_MAGIC, _VERSION, *shared) + raw
        at += len(header) + len(data)
        yield header
        yield data
    yield bytes(directory)
    yield _END.pack(_END_MAGIC, 0, 0, len(members), len(members), len(directory), at, 0)


def read_archive(raw: bytes, *, subject: str) -> dict[str, bytes]:
    """The members of an archive, by name. Nothing is written anywhere.

    Raises:
        EvidenceError: It is not exactly what `write_archive` makes of its members; the message says
            where and what.
        LimitExceeded: It is larger than a cap.
    """
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise LimitExceeded(
            f"{subject} has {len(raw):,} bytes; the cap is {MAX_EVIDENCE_BYTES:,}", subject=subject
        )
    entries = _directory(raw, subject)
    members: dict[str, bytes] = {}
    folded: dict[str, str] = {}
    at = 0
    for entry in entries:
        where = f"member {quoted(entry.name)}"
        _check_entry(entry, where, subject)
        twin = folded.setdefault(entry.name.casefold(), entry.name)
        if entry.name in members:
            raise _refused(subject, f"{where} is there twice", "one name has one content")
        if twin != entry.name:
            raise _refused(
                subject, f"{where} differs from {quoted(twin)} in letter case only", _UNPACK
            )
        members[entry.name], at = _member(raw, entry, at, where, subject)
    start = len(raw) - _END.size - sum(_CENTRAL.size + len(e.name) for e in entries)
    if at != start:
        raise _refused(
            subject,
            f"{start - at:,} bytes between the last member and the directory (at byte {at:,})",
            "members follow each other without a gap",
        )
    offset = _first_difference(raw, members)
    if offset is not None:
        raise _refused(
            subject,
            f"a field of {_place(entries, offset)} is not as r1prov writes it (byte {offset:,})",
            "one set of members has one archive: times, attributes and order are fixed",
        )
    return members


def _first_difference(raw: bytes, members: Mapping[str, bytes]) -> int | None:
    """Where an archive differs from the one that would be written of its members."""
    at = 0
    for piece in _pieces(members):
        if not raw.startswith(piece, at):
            pairs = enumerate(zip(piece, raw[at : at + len(piece)], strict=False))
            return at + next((i for i, (a, b) in pairs if a != b), 0)
        at += len(piece)
    return None


_UNPACK: Final = "on some file systems one would replace the other"


def _directory(raw: bytes, subject: str) -> list[_Entry]:
    if raw[:4] != _LOCAL_MAGIC:
        raise _refused(
            subject,
            f"it does not begin with a member of a ZIP archive, but with {raw[:4].hex() or 'none'}",
            _kind_hint(raw),
        )
    end = len(raw) - _END.size
    if end < 0 or raw[end : end + 4] != _END_MAGIC:
        found = raw.rfind(_END_MAGIC)
        what = "it has no end record: it is cut, or no archive"
        if found >= 0:
            what = f"{len(raw) - found - _END.size:,} bytes follow the end record"
        raise _refused(subject, what, "nothing stands behind the archive, no comment either")
    _, disk, start_disk, here, count, size, offset, comment = _END.unpack_from(raw, end)
    if (
        raw[end - 20 : end - 16] == _ZIP64_LOCATOR
        or 0xFFFF in (here, count)
        or _ZIP64 in (size, offset)
    ):
        raise _refused(subject, "it has ZIP64 records", "a bundle is below 4 GiB")
    if disk or start_disk or here != count:
        raise _refused(subject, "it is one of several volumes", "a bundle is one file")
    if comment:
        raise _refused(subject, "it has a comment", "no byte of a bundle is free")
    if count > MAX_EVIDENCE_MEMBERS:
        raise LimitExceeded(
            f"{subject} says it has {count:,} members; the cap is {MAX_EVIDENCE_MEMBERS:,}",
            subject=subject,
        )
    if offset + size != end:
        raise _refused(
            subject,
            f"its directory is said to be {size:,} bytes at {offset:,}, and does not reach the end "
            f"record at {end:,}",
            "something was put before or into the archive",
        )
    entries = []
    at = offset
    for _ in range(count):
        if at + _CENTRAL.size > end or raw[at : at + 4] != _CENTRAL_MAGIC:
            raise _refused(subject, f"its directory is broken at byte {at:,}", None)
        fields = _CENTRAL.unpack_from(raw, at)
        flags, method, crc, packed, full = fields[3], fields[4], *fields[7:10]
        length, extra, note = fields[10:13]
        at += _CENTRAL.size
        name = raw[at : at + length].decode("latin-1")
        entries.append(
            _Entry(name, flags, method, crc, packed, full, extra, note, fields[15], fields[16])
        )
        at += length + extra + note
    if at != end:
        raise _refused(subject, f"its directory has {end - at:,} bytes too many", None)
    return entries


def _check_entry(entry: _Entry, where: str, subject: str) -> None:
    fault = _name_fault(entry.name)
    if fault is not None:
        raise _refused(subject, f"{where} has a name that is not taken: {fault}", None)
    kind = entry.attributes >> 16 & 0o170000
    if kind not in (0, 0o100000):
        names = {0o120000: "a symbolic link", 0o040000: "a directory"}
        raise _refused(subject, f"{where} is {names.get(kind, 'a special file')}", "only files are")
    if entry.flags & _ENCRYPTED:
        raise _refused(subject, f"{where} is encrypted", "evidence can be read by anyone")
    if entry.method != 0:
        raise _refused(
            subject,
            f"{where} is compressed (method {entry.method}, {entry.packed:,} to {entry.size:,} "
            "bytes)",
            "members of a bundle are stored; a small archive cannot unpack into a large one",
        )
    if _ZIP64 in (entry.packed, entry.size, entry.offset):
        raise _refused(subject, f"{where} has ZIP64 fields", "a bundle is below 4 GiB")
    if entry.packed != entry.size:
        raise _refused(subject, f"{where} is stored with two sizes", None)
    if entry.extra or entry.comment:
        raise _refused(subject, f"{where} has extra fields or a comment", "no byte is free")


def _member(raw: bytes, entry: _Entry, at: int, where: str, subject: str) -> tuple[bytes, int]:
    """Content of a member, which must begin at `at`, and where it ends."""
    if entry.offset != at:
        raise _refused(
            subject,
            f"{where} is said to begin at byte {entry.offset:,}, and the one before ends at {at:,}",
            "members follow each other, without overlap and without a gap",
        )
    if at + _LOCAL.size > len(raw) or raw[at : at + 4] != _LOCAL_MAGIC:
        raise _refused(subject, f"{where} has no header at byte {at:,}", None)
    fields = _LOCAL.unpack_from(raw, at)
    name_end = at + _LOCAL.size + fields[9]
    name = raw[at + _LOCAL.size : name_end].decode("latin-1")
    local = (name, fields[2], fields[3], fields[6], fields[7], fields[8], fields[10])
    named = ("name", "flags", "method", "CRC", "packed size", "size", "extra length")
    for what, here, there in zip(named, local, (*entry[:6], 0), strict=True):
        if here != there:
            raise _refused(
                subject,
                f"{where}: {what} is {quoted(str(here))} before the content and "
                f"{quoted(str(there))} in the directory",
                "two readers would see two archives",
            )
    end = name_end + entry.size
    data = raw[name_end:end]
    if len(data) != entry.size:
        raise _refused(subject, f"{where} is cut", None)
    if zlib.crc32(data) != entry.crc:
        raise _refused(
            subject,
            f"{where} was damaged or altered: its CRC-32 is {zlib.crc32(data):08x}, not "
            f"{entry.crc:08x}",
            "get the bundle again from whoever made it",
        )
    return data, end


def _name_fault(name: str) -> str | None:
    if name.endswith("/"):
        return "directories are not listed"
    if name.startswith(("/", "\\")) or ":" in name or "\\" in name:
        return "it is no relative path with `/`"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "it leaves the folder, or has an empty part"
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        return "letters, digits and `._-` in at most 8 folders, none beginning with a dot"
    return None


def _place(entries: list[_Entry], offset: int) -> str:
    for entry in entries:
        if offset < entry.offset + _LOCAL.size + len(entry.name) + entry.size:
            return f"member {quoted(entry.name)}"
    return "the directory"


def _kind_hint(raw: bytes) -> str | None:
    if raw[257:262] == b"ustar":
        return "tar archives are not read; a bundle is a ZIP archive"
    if raw[:2] == b"\x1f\x8b":
        return "it is compressed with gzip; a bundle is a ZIP archive"
    if raw.find(_LOCAL_MAGIC) > 0:
        return "something stands before the archive"
    return "a bundle is a ZIP archive that `r1prov evidence create` made"


def _refused(subject: str, what: str, hint: str | None) -> EvidenceError:
    return EvidenceError(f"{subject}: {what}", subject=subject, hint=hint)
