r"""The sidecar of a manifest: a SHA-256 for every tensor.

The text is `r1prov/tensors/1\n`, then `name\tdtype\td0,d1\tsha256\n` for each tensor, sorted by the
UTF-8 bytes of the name: without its last column the text of the inventory digest. Files and offsets
are not in it, so it is the same whatever the sharding. The manifest states size and SHA-256 of the
whole, so a signature on the manifest is one on the sidecar.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from r1prov.errors import InputError, ManifestError, NotFound
from r1prov.formats.inventory import DTYPE_BITS, inventory_digest
from r1prov.formats.names import tensor_name_fault
from r1prov.limits import (
    MAX_INT63,
    MAX_TENSOR_DIGESTS_BYTES,
    MAX_TENSOR_RANK,
    MAX_TENSORS_PER_MODEL,
)
from r1prov.manifest.schema import Manifest
from r1prov.text import plural, quoted
from r1prov.trust.directories import read_file

TENSORS_SCHEMA: Final = "r1prov/tensors/1"

_DIMENSION = r"(?:0|[1-9][0-9]{0,18})"
_SHAPE: Final = re.compile(rf"(?:{_DIMENSION}(?:,{_DIMENSION}){{0,{MAX_TENSOR_RANK - 1}}})?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# A name of the greatest length, 32 dimensions of 19 digits and the rest.
_MAX_LINE: Final = 2048


class TensorDigest(NamedTuple):
    """One tensor with its content.

    Attributes:
        name: Its name.
        dtype: Its dtype, as safetensors spells it.
        shape: Its dimensions.
        sha256: SHA-256 of its bytes, in hex.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str


def emit_tensor_digests(tensors: Iterable[TensorDigest]) -> bytes:
    """The sidecar of these tensors; `parse_tensor_digests` gives them back, sorted by name.

    Raises:
        ManifestError: They are none that a sidecar may state, such as two of one name.
    """
    lines = [f"{TENSORS_SCHEMA}\n"]
    lines += [
        f"{name}\t{dtype}\t{','.join(map(str, shape))}\t{sha256}\n"
        for name, dtype, shape, sha256 in sorted(tensors)
    ]
    try:
        raw = "".join(lines).encode()
    except UnicodeEncodeError:
        raise ManifestError("a tensor name is not Unicode text", subject="tensors") from None
    # What cannot be read back must not be signed.
    parse_tensor_digests(raw, subject="tensors")
    return raw


def parse_tensor_digests(raw: bytes, *, subject: str) -> tuple[TensorDigest, ...]:
    """Parse a sidecar. Two different texts never mean the same: there is one form for each list.

    Args:
        raw: The bytes of the file.
        subject: Its name, for messages.

    Raises:
        ManifestError: It is malformed; the message names the line, what belongs there and what is
            there.
    """
    if len(raw) > MAX_TENSOR_DIGESTS_BYTES:
        raise ManifestError(
            f"is {len(raw):,} bytes; the cap is {MAX_TENSOR_DIGESTS_BYTES:,}", subject=subject
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise _Fault("UTF-8", f"byte 0x{raw[error.start]:02x}").at(number, subject) from None
    count = text.count("\n")
    if count > MAX_TENSORS_PER_MODEL + 1:
        raise ManifestError(
            f"has {count:,} lines; the cap is {MAX_TENSORS_PER_MODEL:,} tensors", subject=subject
        )
    # Not `splitlines`, which also breaks at form feeds and their kind.
    first, *lines = text.split("\n")
    if first != TENSORS_SCHEMA:
        fault = _Fault(f"`{TENSORS_SCHEMA}`", quoted(first, limit=80))
        prefix = TENSORS_SCHEMA.rpartition("/")[0] + "/"
        newer = "it may be newer than this r1prov: upgrade" if first.startswith(prefix) else None
        raise fault.at(1, subject, hint=newer)
    if not lines or lines.pop() != "":
        raise _Fault("a line break at the end of the file", "none").at(count + 1, subject)
    tensors = []
    # R1's 91,991 tensors are of 25 kinds, so each kind is looked at once.
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    previous = ""
    number = 1
    try:
        for number, line in enumerate(lines, 2):  # noqa: B007 - the handler names the line
            tensor = _parse_line(line, shapes)
            if tensor.name <= previous:
                _refuse_order(tensor.name, previous)
            previous = tensor.name
            tensors.append(tensor)
    except _Fault as fault:
        raise fault.at(number, subject) from None
    return tuple(tensors)


class _Fault(Exception):
    """What belongs in a line and what is there instead."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def at(self, line: int, subject: str, *, hint: str | None = None) -> ManifestError:
        return ManifestError(
            f"line {line:,}: expected {self.expected}, found {self.found}",
            subject=subject,
            hint=hint or "make it again with `r1prov manifest create --tensors`",
        )


def _parse_line(line: str, shapes: dict[tuple[str, str], tuple[int, ...]]) -> TensorDigest:
    if len(line) > _MAX_LINE:
        raise _Fault(f"at most {_MAX_LINE:,} characters", f"{len(line):,}")
    fields = line.split("\t")
    if len(fields) != 4:
        raise _Fault("name, dtype, shape and SHA-256 between tabs", plural(len(fields), "field"))
    name, dtype, digits, sha256 = fields
    fault = tensor_name_fault(name)
    if fault is not None:
        raise _Fault("a tensor name", f"{quoted(name, limit=80)}, which {fault}")
    shape = shapes.get((dtype, digits))
    if shape is None:
        shape = shapes[dtype, digits] = _parse_shape(dtype, digits)
    if _SHA256.fullmatch(sha256) is None:
        raise _Fault("64 hex digits, lower case", quoted(sha256, limit=80))
    return TensorDigest(name, dtype, shape, sha256)


def _parse_shape(dtype: str, digits: str) -> tuple[int, ...]:
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise _Fault("a dtype of safetensors", quoted(dtype, limit=40))
    if _SHAPE.fullmatch(digits) is None:
        raise _Fault("dimensions such as `2,3`", quoted(digits, limit=80))
    shape = tuple(map(int, digits.split(","))) if digits else ()
    # The rules of safetensors headers: zero dimensions hide no overflow, and bytes are whole.
    widest = bits
    for dimension in shape:
        widest *= dimension or 1
    if widest > MAX_INT63:
        raise _Fault("a shape below 2^63 bits", quoted(digits, limit=80))
    if widest % 8 and 0 not in shape:
        raise _Fault("a tensor of whole bytes", f"{widest:,} bits ({dtype})")
    return shape


def _refuse_order(name: str, previous: str) -> None:
    if name == previous:
        raise _Fault("each name once", f"{quoted(name, limit=80)} a second time")
    raise _Fault(
        f"a name after {quoted(previous, limit=80)}, in the order of the bytes",
        quoted(name, limit=80),
    )


def check_tensor_digests(
    manifest: Manifest, raw: bytes, *, subject: str
) -> tuple[TensorDigest, ...]:
    """Parse the sidecar of a manifest, after checking that it is the one that was meant.

    Args:
        manifest: The manifest; whoever trusts it may trust the answer.
        raw: The bytes of the sidecar.
        subject: Its name, for messages.

    Raises:
        ManifestError: The manifest has no sidecar or another one, or this one is malformed, or it
            is not about the inventory that the manifest states.
    """
    stated = manifest.tensors
    if stated is None:
        raise ManifestError(
            "states no digests of tensors",
            subject=manifest.name,
            hint="make one that does with `r1prov manifest create --tensors`",
        )
    if len(raw) != stated.size:
        raise _not_meant(manifest, subject, f"{stated.size:,} bytes", f"{len(raw):,}")
    found = hashlib.sha256(raw).hexdigest()
    if found != stated.sha256:
        raise _not_meant(manifest, subject, f"sha256:{stated.sha256}", f"sha256:{found}")
    tensors = parse_tensor_digests(raw, subject=subject)
    if len(tensors) != stated.count:
        raise _not_meant(manifest, subject, plural(stated.count, "tensor"), f"{len(tensors):,}")
    if manifest.architecture is not None:
        inventory = inventory_digest((t.name, t.dtype, t.shape) for t in tensors)
        if inventory != manifest.architecture.inventory_sha256:
            raise _not_meant(
                manifest,
                subject,
                f"the inventory {manifest.architecture.inventory_sha256}",
                inventory,
            )
    return tensors


def _not_meant(manifest: Manifest, subject: str, expected: str, found: str) -> ManifestError:
    return ManifestError(
        f"is not the file that manifest {manifest.name} states: expected {expected}, found {found}",
        subject=subject,
        hint="get both files from whoever signed the manifest",
    )


def load_tensor_digests(manifest: Manifest, directory: Path) -> tuple[TensorDigest, ...]:
    """Read the sidecar that lies beside a manifest.

    Args:
        manifest: The manifest.
        directory: Where the manifest lies.

    Raises:
        NotFound: It is not there.
        Unreadable: It cannot be read.
        ManifestError: As `check_tensor_digests`.
    """
    if manifest.tensors is None:
        return check_tensor_digests(manifest, b"", subject=manifest.name)
    path = directory / manifest.tensors.path
    try:
        raw = read_file(path, MAX_TENSOR_DIGESTS_BYTES)
    except NotFound:
        raise NotFound(
            f"manifest {manifest.name} states digests of tensors in {manifest.tensors.path}, which "
            "is not beside it",
            subject=str(path),
            hint="copy the file there, or verify by file",
        ) from None
    except InputError as error:
        raise ManifestError(error.message, subject=str(path)) from None
    return check_tensor_digests(manifest, raw, subject=str(path))
