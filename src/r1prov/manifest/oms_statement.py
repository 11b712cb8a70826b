"""The statement of an OpenSSF Model Signing (OMS) bundle: which files, with which digests.

The specification is https://github.com/ossf/model-signing-spec (spec/v1.0.md, cited by section).
Read are its form and what model_signing 0.3.1 to 1.1.1 wrote; written is its form only. A
statement is parsed after its signature was verified, from the very bytes that were signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.errors import JsonError, OmsError
from r1prov.formats.names import unsafe_character
from r1prov.formats.strictjson import parse_json
from r1prov.hashing.pieces import DIGEST_BYTES
from r1prov.limits import MAX_INT63, MAX_OMS_BUNDLE_BYTES, MAX_PATH_BYTES, MAX_STORE_ENTRIES
from r1prov.text import plural, quoted
from r1prov.trust.dsse import IN_TOTO_TYPE

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
# What §6.2 excludes in every model.
DEFAULT_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
# What stands for the file where a model is one file; §6.1.2 wants its name instead, and no
# producer writes it.
SINGLE_FILE: Final = "."

# VERSIONING.md: a minor version only adds optional fields, and v1.0 verifiers accept it.
_PREDICATE = re.compile(r"https://model_signing/signature/v1\.(0|[1-9][0-9]{0,3})")
# What model_signing 0.2.0 wrote (§5.1).
WITHDRAWN_PREDICATE: Final = "https://model_signing/Digests/v0.1"
_SHARD = re.compile(r"(.+):(0|[1-9][0-9]{0,18}):([1-9][0-9]{0,18})", re.DOTALL)
_GLOB = re.compile(r"[*?\[]")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class OmsFile:
    """One signed file.

    Attributes:
        path: Path in the model; `.` where the model is that one file.
        digests: One digest, or one a shard in order.
        size: Bytes, which only shards tell; None if unknown.
    """

    path: str
    digests: tuple[bytes, ...]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class OmsStatement:
    """What an OMS signature states of a model.

    Attributes:
        name: What the signer called the model; informational (§6.5.1).
        root: The root digest: SHA-256, in hex, of all digests in the order they are listed. It
            binds neither names nor sizes, so it identifies no model.
        hash_type: `sha256`, `blake2b` or `blake3`.
        shard_size: Bytes of a shard; None where every file has one digest.
        allow_symlinks: Whether the signer followed symbolic links.
        ignore_paths: What the signer left out.
        files: Every signed file, in the order of the statement.
    """

    name: str
    root: str
    hash_type: str
    shard_size: int | None
    allow_symlinks: bool
    ignore_paths: tuple[str, ...]
    files: tuple[OmsFile, ...]


def path_fault(path: str) -> str | None:
    """Why a path may not stand in a statement, as the end of a sentence, or None (§6.1.2)."""
    if not path:
        return "is empty"
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"is longer than {plural(MAX_PATH_BYTES, 'byte')}"
    character = unsafe_character(path)
    if character is not None:
        return f"holds the control or invisible character U+{ord(character):04X}"
    if "\\" in path:
        return "holds a backslash, which is a separator on Windows"
    if path.startswith("/") or re.match(r"[A-Za-z]:/", path):
        return "is absolute"
    if path.endswith("/"):
        return "ends with a slash"
    for component in path.split("/"):
        if component in ("", ".", ".."):
            return f"has the component {quoted(component)}"
    return None


def root_digest(digests: Iterable[bytes]) -> str:
    """The OMS root digest (§6.5.1): SHA-256 whatever the files are hashed with."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def parse_statement(payload: bytes, payload_type: str, *, subject: str) -> OmsStatement:
    """Read the payload of an OMS envelope.

    Args:
        payload: The signed bytes.
        payload_type: Their type, as signed.
        subject: The bundle file, for messages.

    Raises:
        OmsError: `oms-statement` where it is not an OMS statement, `oms-root` where the root
            digest is not that of the files, `oms-unsupported` where it may be one and is of a
            version or with a hash that is not read.
    """
    if payload_type != IN_TOTO_TYPE:
        raise _error("the payload is of another type", subject, IN_TOTO_TYPE, quoted(payload_type))
    try:
        value = parse_json(payload, subject=subject, max_bytes=MAX_OMS_BUNDLE_BYTES)
    except JsonError as error:
        raise _error(f"the payload: {error.message}", subject, error.expected, error.found) from (
            None
        )
    return _Reader(subject).statement(value)


def _error(
    message: str,
    subject: str,
    expected: str | None = None,
    found: str | None = None,
    *,
    rule: str = "oms-statement",
    hint: str | None = None,
) -> OmsError:
    return OmsError(rule, message, subject=subject, expected=expected, found=found, hint=hint)


class _Reader:
    """Reads one statement; every error names the bundle."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        # Unknown members are refused in v1.0, whose schema is closed, and passed over in v1.x.
        self._closed = True

    def _error(self, message: str, expected: str | None = None, found: object = None) -> OmsError:
        shown = None if found is None else quoted(str(found), limit=120)
        return _error(message, self._subject, expected, shown)

    def _object(self, value: object, what: str, known: set[str] | None) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._error(f"{what} is missing or not an object")
        if known is not None and self._closed:
            unknown = sorted(value.keys() - known)
            if unknown:
                raise self._error(
                    f"{what} has a member that the specification does not know",
                    expected=", ".join(sorted(known)),
                    found=unknown[0],
                )
        return value

    def _text(self, value: object, what: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._error(f"{what} is missing or not a string")
        return value

    def statement(self, value: object) -> OmsStatement:
        top = self._object(value, "the statement", None)
        if top.get("_type") != STATEMENT_TYPE:
            raise self._error("not an in-toto statement v1", STATEMENT_TYPE, repr(top.get("_type")))
        self._predicate_type(top.get("predicateType"))
        known = {"_type", "subject", "predicateType", "predicate"}
        self._object(top, "the statement", known)
        name, root = self._model(top.get("subject"))
        predicate = self._object(
            top.get("predicate"), "the predicate", {"resources", "serialization"}
        )
        how = self._object(
            predicate.get("serialization"),
            "`serialization`",
            {"method", "hash_type", "shard_size", "allow_symlinks", "ignore_paths"},
        )
        hash_type = self._hash_type(how.get("hash_type"))
        shard_size = self._shard_size(how)
        symlinks = how.get("allow_symlinks")
        if not isinstance(symlinks, bool):
            raise self._error("`allow_symlinks` is missing or not true or false")
        ignored = self._ignored(how.get("ignore_paths", []))
        resources = self._resources(predicate.get("resources"), hash_type, shard_size)
        computed = root_digest(digest for _, digest in resources)
        if computed != root:
            raise _error(
                "the root digest is not that of the listed files",
                self._subject,
                rule="oms-root",
                expected=computed,
                found=root,
            )
        files = (
            self._joined(resources, shard_size)
            if shard_size
            else tuple(OmsFile(path, (digest,)) for path, digest in resources)
        )
        for file in files:
            fault = None if file.path == SINGLE_FILE else path_fault(file.path)
            if fault is not None:
                raise self._error(f"a resource name {fault}", "a path in the model", file.path)
        if len(files) > 1 and any(file.path == SINGLE_FILE for file in files):
            raise self._error("`.` stands for a model of one file, and more are listed")
        return OmsStatement(name, root, hash_type, shard_size, symlinks, ignored, files)

    def _predicate_type(self, value: object) -> None:
        match = _PREDICATE.fullmatch(value) if isinstance(value, str) else None
        if match is not None:
            self._closed = match[1] == "0"
            return
        if value == WITHDRAWN_PREDICATE:
            raise _error(
                "written by model_signing 0.2.0, whose form is withdrawn",
                self._subject,
                PREDICATE_TYPE,
                WITHDRAWN_PREDICATE,
                rule="oms-unsupported",
                hint="sign the model again with a later version",
            )
        raise self._error("not a model signature: another predicateType", PREDICATE_TYPE, value)

    def _model(self, value: object) -> tuple[str, str]:
        if not isinstance(value, list) or len(value) != 1:
            count = len(value) if isinstance(value, list) else "no list"
            raise self._error("a model signature has exactly one subject", "1", count)
        subject = self._object(value[0], "the subject", None)
        name = self._text(subject.get("name"), "the name of the subject")
        digest = self._object(subject.get("digest"), "the digest of the subject", None)
        root = digest.get("sha256")
        if not isinstance(root, str) or len(root) != 64 or not _HEX.fullmatch(root):
            raise self._error("the root digest is not 64 lower-case hex digits", found=root)
        return name, root

    def _hash_type(self, value: object) -> str:
        if not isinstance(value, str) or value not in DIGEST_BYTES:
            raise _error(
                "`hash_type` is not a hash that is read",
                self._subject,
                ", ".join(DIGEST_BYTES),
                quoted(repr(value), limit=80),
                rule="oms-unsupported",
            )
        return value

    def _shard_size(self, how: dict[str, object]) -> int | None:
        method = how.get("method")
        size = how.get("shard_size")
        if method == "files":
            if "shard_size" in how:
                raise self._error("`shard_size` stands beside the method `files`", "absent", size)
            return None
        if method != "shards":
            raise self._error("`method` is unknown", "files or shards", repr(method))
        # model_signing writes a float: 256.0.
        if isinstance(size, float) and size.is_integer():
            size = int(size)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_INT63:
            raise self._error("`shard_size` is not a positive integer", found=repr(size))
        return size

    def _ignored(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > MAX_STORE_ENTRIES:
            raise self._error("`ignore_paths` is not a list of paths")
        for path in value:
            if not isinstance(path, str):
                raise self._error("`ignore_paths` is not a list of paths", found=repr(path))
            fault = path_fault(path)
            if fault is None and _GLOB.search(path):
                fault = "holds a glob character (§6.2.1)"
            if fault is not None:
                raise self._error(f"an ignored path {fault}", "a path in the model", path)
        return tuple(value)

    def _resources(
        self, value: object, hash_type: str, shard_size: int | None
    ) -> list[tuple[str, bytes]]:
        if not isinstance(value, list) or not value:
            raise self._error("no files are listed: `resources` is missing or empty")
        # The specification writes the hash's name; model_signing puts the shard size behind it.
        algorithms = {hash_type}
        if shard_size:
            algorithms.add(f"{hash_type}-sharded-{shard_size}")
        width = 2 * DIGEST_BYTES[hash_type]
        found: dict[str, bytes] = {}
        for item in value:
            one = self._object(item, "a resource", None)
            name = self._text(one.get("name"), "the name of a resource")
            if name in found:
                raise self._error("a resource is listed twice", found=name)
            algorithm = one.get("algorithm")
            if not isinstance(algorithm, str) or algorithm not in algorithms:
                raise self._error(
                    f"{quoted(name)} has another algorithm than `hash_type`",
                    " or ".join(sorted(algorithms)),
                    repr(algorithm),
                )
            digest = one.get("digest")
            if not isinstance(digest, str) or len(digest) != width or not _HEX.fullmatch(digest):
                raise self._error(
                    f"the digest of {quoted(name)} is malformed",
                    f"{width} lower-case hex digits",
                    repr(digest),
                )
            found[name] = bytes.fromhex(digest)
        return list(found.items())

    def _joined(self, resources: list[tuple[str, bytes]], shard_size: int) -> tuple[OmsFile, ...]:
        """Shards put together into files; they must tile each file (§6.3.2)."""
        shards: dict[str, list[tuple[int, int, bytes]]] = {}
        for name, digest in resources:
            # The last two numbers: the path may hold colons too.
            match = _SHARD.fullmatch(name)
            if match is None:
                raise self._error("a shard has no byte range", "PATH:START:END", name)
            shards.setdefault(match[1], []).append((int(match[2]), int(match[3]), digest))
        files = []
        for path, parts in shards.items():
            parts.sort()
            position = 0
            for number, (start, end, _) in enumerate(parts, 1):
                whole = end - start == shard_size
                last = number == len(parts) and 0 < end - start <= shard_size
                if start != position or end > MAX_INT63 or not (whole or last):
                    raise self._error(
                        f"the shards of {quoted(path)} leave a gap, overlap, or are not of "
                        "`shard_size`",
                        f"{position}:{position + shard_size}, shorter only at the end",
                        f"{start}:{end}",
                    )
                position = end
            files.append(OmsFile(path, tuple(part[2] for part in parts), position))
        return tuple(files)


def make_statement(
    name: str, files: Iterable[tuple[str, str]], *, ignore_paths: Sequence[str] = ()
) -> OmsStatement:
    """A statement in the specification's form: method `files`, SHA-256, code-point order.

    Args:
        name: What to call the model; a label that no verifier relies on.
        files: Path and SHA-256 in hex of every file.
        ignore_paths: What was left out beside `DEFAULT_IGNORED`.

    Raises:
        OmsError: No file, a path that may not stand in a statement, or one of them twice.
    """
    # Code points: the order of UTF-8 bytes is the same, that of UTF-16 is not (§5.2.1).
    resources = sorted((path, bytes.fromhex(digest)) for path, digest in files)
    for path in [*(path for path, _ in resources), *ignore_paths]:
        fault = path_fault(path)
        if fault is not None:
            raise _error(f"{quoted(path)} cannot be signed: it {fault}", name)
    statement = OmsStatement(
        name,
        root_digest(digest for _, digest in resources),
        "sha256",
        None,
        allow_symlinks=False,
        ignore_paths=tuple(sorted({*DEFAULT_IGNORED, *ignore_paths})),
        files=tuple(OmsFile(path, (digest,)) for path, digest in resources),
    )
    parse_statement(statement_json(statement), IN_TOTO_TYPE, subject=name)
    return statement


def statement_json(statement: OmsStatement) -> bytes:
    """The payload of a statement that `make_statement` made."""
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": statement.name, "digest": {"sha256": statement.root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": [
                {"name": one.path, "algorithm": "sha256", "digest": one.digests[0].hex()}
                for one in statement.files
            ],
            "serialization": {
                "method": "files",
                "hash_type": statement.hash_type,
                "allow_symlinks": statement.allow_symlinks,
                "ignore_paths": list(statement.ignore_paths),
            },
        },
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
