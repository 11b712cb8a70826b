"""A statement read back strictly, once its signature is known to be good.

Unknown members are ignored, as in-toto's parsing rules demand of consumers; those that are read
have exactly one meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from r1prov.attest.names import model_of_manifest_uri
from r1prov.attest.statements import PASSED, STATEMENT_TYPE, SVR_TYPE, VSA_TYPE
from r1prov.errors import BundleError, JsonError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_BUNDLE_BYTES
from r1prov.text import quoted

_SVR_V0_1 = "https://in-toto.io/attestation/svr/v0.1"
# Version 0.2 only made a member required that is required here of both.
PREDICATE_TYPES = frozenset({SVR_TYPE, _SVR_V0_1, VSA_TYPE})
_SHA256 = re.compile(r"[0-9a-f]{64}")
# in-toto field type Timestamp: RFC 3339 in UTC ("Z").
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a statement about a model says.

    Attributes:
        predicate_type: One of `PREDICATE_TYPES`.
        subjects: Name to SHA-256 of every subject.
        verifier_id: Who verified, by its own account.
        time: When it was verified.
        model: Model name of the manifest that is named as policy; None if the policy is another.
        manifest_sha256: Digest of that policy.
        resource_uri: Where the model is fetched from; only a VSA says so.
        properties: What was verified.
        passed: Whether the summary says PASSED; an SVR says nothing but its properties.
    """

    predicate_type: str
    subjects: dict[str, str]
    verifier_id: str
    time: datetime
    model: str | None
    manifest_sha256: str
    resource_uri: str | None
    properties: tuple[str, ...]
    passed: bool


def predicate_type(payload: bytes, subject: str) -> str:
    """The predicate type of a statement, for whoever reads only some of them.

    Raises:
        BundleError: The payload is not an in-toto statement v1.
    """
    return _Members.of_statement(payload, subject).text("predicateType")


def read_statement(payload: bytes, subject: str) -> Statement:
    """Read an SVR or VSA.

    Args:
        payload: The payload of an envelope whose signature is good.
        subject: Name of the bundle, for messages.

    Raises:
        BundleError: Not such a statement, or a member of it is missing or malformed.
    """
    top = _Members.of_statement(payload, subject)
    kind = top.text("predicateType")
    if kind not in PREDICATE_TYPES:
        raise top.error("predicateType", f"is {quoted(kind)}")
    predicate = top.members("predicate")
    verifier = predicate.members("verifier")
    if kind == VSA_TYPE:
        policy = predicate.members("policy")
        time, properties = predicate.time("timeVerified"), predicate.texts("verifiedLevels")
        resource: str | None = predicate.text("resourceUri")
        passed = predicate.text("verificationResult") == PASSED
    else:
        policies = verifier.list("policies")
        if len(policies) != 1:
            raise verifier.error("policies", "has not exactly one entry")
        policy = verifier.member_of("policies", policies[0])
        time, properties = predicate.time("timeCreated"), predicate.texts("properties")
        resource, passed = None, True
    subjects: dict[str, str] = {}
    for item in top.list("subject"):
        one = top.member_of("subject", item)
        name = one.text("name")
        if name in subjects:
            raise one.error("name", f"{quoted(name)} stands twice")
        subjects[name] = one.members("digest").sha256()
    return Statement(
        predicate_type=kind,
        subjects=subjects,
        verifier_id=verifier.text("id"),
        time=time,
        model=model_of_manifest_uri(policy.text("uri")),
        manifest_sha256=policy.members("digest").sha256(),
        resource_uri=resource,
        properties=properties,
        passed=passed,
    )


class _Members:
    """One object of a statement, read with errors that name the bundle and the member."""

    def __init__(self, value: dict[str, object], where: str, subject: str) -> None:
        self._value = value
        self._where = where
        self._subject = subject

    @classmethod
    def of_statement(cls, payload: bytes, subject: str) -> _Members:
        try:
            value = parse_json(payload, subject=subject, max_bytes=MAX_BUNDLE_BYTES)
        except JsonError as error:
            raise BundleError(
                f"{subject}: the payload: {error.message}", subject=subject, hint=error.hint
            ) from None
        if not isinstance(value, dict):
            raise BundleError(f"{subject}: the payload is not an object", subject=subject)
        top = cls(value, "", subject)
        kind = top.text("_type")
        if kind != STATEMENT_TYPE:
            raise top.error("_type", f"is {quoted(kind)}, not {STATEMENT_TYPE}")
        return top

    def error(self, name: str, what: str) -> BundleError:
        return BundleError(
            f"{self._subject}: the statement's {self._where}{name} {what}", subject=self._subject
        )

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 4096:
            raise self.error(name, "is missing or not a string")
        return value

    def list(self, name: str) -> list[object]:
        value = self._value.get(name)
        if not isinstance(value, list):
            raise self.error(name, "is missing or not a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        found = []
        for one in self.list(name):
            if not isinstance(one, str):
                raise self.error(name, "is not a list of strings")
            found.append(one)
        return tuple(found)

    def members(self, name: str) -> _Members:
        return self.member_of(name, self._value.get(name))

    def member_of(self, name: str, value: object) -> _Members:
        if not isinstance(value, dict):
            raise self.error(name, "is missing or not an object")
        return _Members(value, f"{self._where}{name}.", self._subject)

    def sha256(self) -> str:
        value = self._value.get("sha256")
        if not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise self.error("sha256", "is missing or not 64 lower-case hex digits")
        return value

    def time(self, name: str) -> datetime:
        value = self.text(name)
        if not _TIME.fullmatch(value):
            raise self.error(name, f"is {quoted(value)}, not a time in UTC")
        # datetime keeps microseconds: cut what is finer.
        cut = re.sub(r"(\.\d{6})\d+", r"\1", value)
        try:
            return datetime.fromisoformat(cut)
        except ValueError:
            raise self.error(name, f"is {quoted(value)}, which is no time") from None
