"""The index: every member of a bundle with its SHA-256, and what the bundle is about.

It is what is signed, so it alone says what belongs to a bundle. One index has one text.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from r1prov.attest.statements import timestamp
from r1prov.errors import EvidenceError, JsonError
from r1prov.evidence.bag import DATA, ROOT
from r1prov.evidence.parts import Kind, out_of_place
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES
from r1prov.text import quoted
from r1prov.verify.findings import Verdict
from r1prov.verify.policy import Level, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA: Final = "r1prov/evidence/1"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TOP: Final = {
    *("schema", "model", "created", "r1prov", "verdict", "level", "scope", "expected"),
    *("manifest", "policy", "timestamped", "previous", "parts"),
}
UNIDENTIFIED: Final = "unidentified"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One member of the payload.

    Attributes:
        path: Below the payload folder.
        kind: What it is.
        size: Bytes.
        sha256: Of its content.
    """

    path: str
    kind: Kind
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The bundle that this one continues.

    Attributes:
        sha256: Of its file.
        created: When it says it was made.
    """

    sha256: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What a bundle holds and is about.

    Attributes:
        model: Model name in the manifest; `unidentified` without one.
        created: When the bundle was made, by the maker's clock.
        version: Of the r1prov that made it.
        verdict: What the maker's run came to.
        level: How deep it looked.
        scope: Which files had to match.
        expected: The model that was expected; None if any would do.
        manifest: Path of the manifest among the parts.
        policy: Path of the policy file among the parts.
        timestamped: Whether its maker had the signature timestamped: that lies outside of what is
            signed, and could be taken out unseen otherwise.
        previous: The bundle that it continues.
        parts: Every member of the payload, by path.
    """

    model: str
    created: datetime
    version: str
    verdict: Verdict
    level: Level
    scope: Scope
    expected: str | None
    manifest: str | None
    policy: str | None
    timestamped: bool = False
    previous: Previous | None
    parts: tuple[Part, ...]

    @property
    def day(self) -> str:
        """When it was made, as BagIt wants it."""
        return self.created.strftime("%Y-%m-%d")

    def of(self, kind: Kind) -> list[Part]:
        """The parts of a kind."""
        return [one for one in self.parts if one.kind is kind]

    def to_json(self) -> bytes:
        """The index file."""
        value = {
            "schema": SCHEMA,
            "model": self.model,
            "created": timestamp(self.created),
            "r1prov": self.version,
            "verdict": self.verdict.value,
            "level": self.level.value,
            "scope": self.scope.value,
            "expected": self.expected,
            "manifest": self.manifest,
            "policy": self.policy,
            "timestamped": self.timestamped,
            "previous": None
            if self.previous is None
            else {
                "sha256": self.previous.sha256,
                "created": timestamp(self.previous.created),
            },
            "parts": [
                {"path": p.path, "kind": p.kind.value, "size": p.size, "sha256": p.sha256}
                for p in sorted(self.parts, key=lambda one: one.path)
            ],
        }
        return (json.dumps(value, indent=1) + "\n").encode()


def parts_of(members: Mapping[str, tuple[Kind, bytes]]) -> tuple[Part, ...]:
    """The parts that members make, by path below the payload folder."""
    return tuple(
        Part(path=path, kind=kind, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, (kind, data) in sorted(members.items())
    )


def parse_index(raw: bytes, *, subject: str) -> Index:
    """Read an index strictly.

    Raises:
        EvidenceError: It is malformed, or not written as `Index.to_json` writes it.
    """
    where = f"{subject}, index.json"
    try:
        top = parse_json(raw, subject=where, max_bytes=MAX_EVIDENCE_INDEX_BYTES)
    except JsonError as error:
        raise EvidenceError(error.message, subject=where, hint=error.hint) from None
    if isinstance(top, dict) and isinstance(top.get("schema"), str) and top["schema"] != SCHEMA:
        raise EvidenceError(
            f"schema is {quoted(top['schema'])}, not {SCHEMA}", subject=where, hint="upgrade r1prov"
        )
    if not isinstance(top, dict) or set(top) != _TOP or not isinstance(top["parts"], list):
        raise EvidenceError(
            f"is no index of {SCHEMA}: a member is missing or unknown", subject=where
        )
    previous = top["previous"]
    if previous is not None and (
        not isinstance(previous, dict) or set(previous) != {"sha256", "created"}
    ):
        raise EvidenceError("`previous` is malformed", subject=where)
    fields = _Fields(where)
    found = Index(
        model=fields.text(top, "model", _MODEL),
        created=fields.time(top["created"]),
        version=fields.text(top, "r1prov"),
        verdict=fields.one_of(Verdict, top["verdict"]),
        level=fields.one_of(Level, top["level"]),
        scope=fields.one_of(Scope, top["scope"]),
        expected=fields.optional(top, "expected"),
        manifest=fields.optional(top, "manifest"),
        policy=fields.optional(top, "policy"),
        timestamped=fields.flag(top, "timestamped"),
        previous=None
        if previous is None
        else Previous(
            sha256=fields.text(previous, "sha256", _SHA256),
            created=fields.time(previous["created"]),
        ),
        parts=tuple(fields.part(one) for one in top["parts"]),
    )
    paths = {one.path: one.kind for one in found.parts}
    for named, kind in ((found.manifest, Kind.MANIFEST), (found.policy, Kind.POLICY)):
        if named is not None and paths.get(named) is not kind:
            raise EvidenceError(
                f"names {quoted(named)}, which is not among its parts of the kind `{kind.value}`",
                subject=where,
            )
    for one in found.parts:
        if out_of_place(one.kind, one.path):
            raise EvidenceError(
                f"lists {quoted(one.path)} as `{one.kind.value}`, and none of those stands there",
                subject=where,
            )
    if len(paths) != len(found.parts):
        raise EvidenceError("names a part twice", subject=where)
    if found.to_json() != raw:
        raise EvidenceError("is not written as r1prov writes it", subject=where)
    return found


class _Fields:
    """Reads fields, with the file in every message."""

    def __init__(self, where: str) -> None:
        self._where = where

    def text(
        self, table: dict[str, object], name: str, pattern: re.Pattern[str] | None = None
    ) -> str:
        value = table.get(name)
        if (
            not isinstance(value, str)
            or not 0 < len(value) <= 1024
            or (pattern is not None and not pattern.fullmatch(value))
        ):
            raise EvidenceError(f"`{name}` is malformed", subject=self._where)
        return value

    def optional(self, table: dict[str, object], name: str) -> str | None:
        return None if table.get(name) is None else self.text(table, name)

    def flag(self, table: dict[str, object], name: str) -> bool:
        value = table.get(name)
        if not isinstance(value, bool):
            raise EvidenceError(f"`{name}` is neither true nor false", subject=self._where)
        return value

    def time(self, value: object) -> datetime:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise EvidenceError("a time is not YYYY-MM-DDThh:mm:ssZ", subject=self._where)
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            raise EvidenceError(f"{value} is no time", subject=self._where) from None

    def one_of(self, make: Callable[[str], _T], value: object) -> _T:
        try:
            # What is no string is none of the values either.
            return make(value if isinstance(value, str) else "")
        except ValueError:
            raise EvidenceError(
                f"{quoted(repr(value))} is unknown here", subject=self._where
            ) from None

    def part(self, value: object) -> Part:
        if not isinstance(value, dict) or set(value) != {"path", "kind", "size", "sha256"}:
            raise EvidenceError("a part is malformed", subject=self._where)
        size = value["size"]
        if type(size) is not int or size < 0:
            raise EvidenceError("a part has no size", subject=self._where)
        return Part(
            path=self.text(value, "path"),
            kind=self.one_of(Kind, value["kind"]),
            size=size,
            sha256=self.text(value, "sha256", _SHA256),
        )


def relative(name: str) -> str:
    """What a member is called in messages: its name in the archive without the folder."""
    return name.removeprefix(ROOT)


def payload(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members of the payload, by path below its folder."""
    return {n.removeprefix(DATA): data for n, data in members.items() if n.startswith(DATA)}
