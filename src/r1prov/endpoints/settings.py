"""What an audit was to do, written down before the first request: the file `LOG.plan`.

With it and the log of exchanges an audit can be run again without the endpoint. The file names
reference, questions and tokenizer by their SHA-256: they are kept apart from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import metadata
from pathlib import Path

import r1prov
from r1prov.endpoints.chat import completions_url
from r1prov.endpoints.client import Client
from r1prov.endpoints.equality import KERNELS, TOKENS
from r1prov.endpoints.plan import Asked, Plan
from r1prov.endpoints.reference_trust import UsedReference
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.errors import EndpointPlanError, JsonError, Unreadable, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_ENDPOINT_PLAN_BYTES, MAX_INT63, MAX_REFERENCE_SAMPLES
from r1prov.responses.redaction import redact_url
from r1prov.text import quoted

SCHEMA = "r1prov/endpoint-plan/1"
# What the figures of a report depend on, besides r1prov itself.
LIBRARIES = ("diptest", "jieba", "numpy", "regex", "tokenizers")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "float": (float, int),
}
# From and to, as the options of `endpoint audit` take them.
_RANGES = {
    "streams": (2, 24),
    "stream_tokens": (1, MAX_INT63),
    "looks": (1, 20),
    "samples": (2, MAX_REFERENCE_SAMPLES),
    "logprob_samples": (2, MAX_REFERENCE_SAMPLES),
    "seed": (0, MAX_INT63),
}


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that an audit used.

    Attributes:
        file: Its name, without a folder.
        sha256: Of its content.
    """

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What an audit was to do.

    Attributes:
        url: Where completions were asked for, without secrets.
        model: Model name in the requests.
        plan: What was to be done; without its questions.
        reference: What the endpoint was held against; None for nothing.
        questions: The test set; None for none.
        source: What it is of: file name, or name of a data set with its commit.
        question_tokens: Tokens of each answer to it.
        tolerated: Drop of accuracy that is still taken.
        tokenizer: SHA-256 of the `tokenizer.json` that streams were held against; None for none.
        libraries: Versions of what figures depend on, by name of the package.
        version: Of r1prov.
    """

    url: str
    model: str
    plan: Plan
    reference: NamedFile | None = None
    questions: NamedFile | None = None
    source: str = ""
    question_tokens: int = 4096
    tolerated: float = 0.05
    tokenizer: str | None = None
    libraries: Mapping[str, str]
    version: str

    def to_json(self) -> bytes:
        """The plan file: the same bytes for the same settings."""
        value = {
            "schema": SCHEMA,
            "url": self.url,
            "model": self.model,
            **{name: getattr(self.plan, name) for name in _plan_fields()},
            "reference": _named(self.reference),
            "questions": _named(self.questions),
            "source": self.source,
            "question_tokens": self.question_tokens,
            "tolerated": self.tolerated,
            "tokenizer": self.tokenizer,
            "libraries": dict(self.libraries),
            "r1prov": self.version,
        }
        return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("ascii")

    def asking(self, asked: Asked | None) -> Plan:
        """The plan with its questions."""
        return replace(self.plan, asked=asked)


def settings_of(
    client: Client,
    plan: Plan,
    *,
    tokenizer: TextTokenizer | None,
    reference: UsedReference | None,
    questions: Path | None,
) -> AuditSettings:
    """The settings of an audit that is to be made.

    Args:
        client: Who is asked.
        plan: What is done.
        tokenizer: Of the claimed model.
        reference: What it is held against.
        questions: Name of the file of questions.
    """
    asked = plan.asked
    return AuditSettings(
        url=redact_url(client.url)[0],
        model=client.model,
        plan=replace(plan, asked=None),
        reference=None
        if reference is None
        else NamedFile(reference.path.name, hashlib.sha256(reference.raw).hexdigest()),
        questions=None
        if asked is None or questions is None
        else NamedFile(questions.name, asked.sha256),
        source="" if asked is None else asked.source,
        question_tokens=asked.max_tokens if asked is not None else 4096,
        tolerated=asked.tolerated if asked is not None else 0.05,
        tokenizer=None if tokenizer is None else tokenizer.sha256,
        libraries=installed_libraries(),
        version=r1prov.__version__,
    )


def plan_path(log: Path) -> Path:
    """The plan file that goes with a log."""
    return log.with_name(f"{log.name}.plan")


def write_plan(log: Path, settings: AuditSettings) -> None:
    """Write the plan of an audit beside its log, in the place of that of an earlier run.

    Raises:
        Unreadable: It cannot be written.
    """
    _write(plan_path(log), settings.to_json())


def write_questions(log: Path, asked: Asked) -> Path:
    """Write the questions of a data set beside the log, as a file of questions would have them.

    Raises:
        Unreadable: It cannot be written.
    """
    path = log.with_name(f"{log.name}.questions.jsonl")
    _write(path, asked.raw)
    return path


def _write(path: Path, raw: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(raw)
    except OSError as error:
        raise Unreadable(f"cannot write {path}: {error.strerror}", subject=str(path)) from None


def installed_libraries() -> dict[str, str]:
    """Versions of the libraries that figures depend on, of those that are there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def parse_settings(raw: bytes, *, subject: str) -> AuditSettings:
    """Read a plan file strictly.

    Raises:
        EndpointPlanError: Malformed, or not written as `AuditSettings.to_json` writes it.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_ENDPOINT_PLAN_BYTES)
    except JsonError as error:
        raise EndpointPlanError(error.message, subject=subject, hint=error.hint) from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise EndpointPlanError(f"is no plan of {SCHEMA}", subject=subject)
    top = _Members(value, subject)
    plan = Plan(**{name: top.of(name, kind) for name, kind in _plan_fields().items()})  # type: ignore[arg-type]
    found = AuditSettings(
        url=top.text("url"),
        model=top.text("model", empty=True),
        plan=plan,
        reference=top.file("reference"),
        questions=top.file("questions"),
        source=top.text("source", empty=True),
        question_tokens=top.count("question_tokens"),
        tolerated=top.share("tolerated"),
        tokenizer=top.digest_or_none("tokenizer"),
        libraries=top.versions("libraries"),
        version=top.text("r1prov"),
    )
    _check(found, subject)
    if found.to_json() != raw:
        raise EndpointPlanError("is not written as r1prov writes it", subject=subject)
    return found


def _check(found: AuditSettings, subject: str) -> None:
    plan = found.plan
    for name, (least, most) in _RANGES.items():
        value = getattr(plan, name)
        if value is not None and not least <= value <= most:
            raise EndpointPlanError(f"`{name}` is not from {least} to {most:,}", subject=subject)
    if not 0 < plan.alpha <= 0.5 or plan.kernel not in {*KERNELS, TOKENS}:
        raise EndpointPlanError("`alpha` or `kernel` is none that an audit takes", subject=subject)
    try:
        as_asked = completions_url(found.url)
    except UsageError as error:
        raise EndpointPlanError(f"`url`: {error.message}", subject=subject) from None
    if as_asked != found.url:
        raise EndpointPlanError("`url` is not where completions are asked for", subject=subject)


def _plan_fields() -> dict[str, str]:
    """Settings of a plan that its file holds, with their types as the class states them."""
    return {one.name: str(one.type) for one in fields(Plan) if one.name != "asked"}


def _named(one: NamedFile | None) -> dict[str, str] | None:
    return None if one is None else {"file": one.file, "sha256": one.sha256}


class _Members:
    """Members of an untrusted object, each with its type in the message."""

    def __init__(self, values: Mapping[str, object], subject: str) -> None:
        self._values = values
        self._subject = subject

    def _wrong(self, name: str) -> EndpointPlanError:
        return EndpointPlanError(f"{quoted(name)} is missing or malformed", subject=self._subject)

    def of(self, name: str, kind: str) -> object:
        value = self._values.get(name)
        types = _TYPES[kind]
        if name not in self._values or not isinstance(value, types):
            raise self._wrong(name)
        if isinstance(value, bool) and bool not in types:
            raise self._wrong(name)
        if isinstance(value, float) and not math.isfinite(value):
            raise self._wrong(name)
        return value

    def text(self, name: str, *, empty: bool = False) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not (value or empty):
            raise self._wrong(name)
        return value

    def count(self, name: str) -> int:
        value = self._values.get(name)
        if type(value) is not int or not 0 < value < 2**31:
            raise self._wrong(name)
        return value

    def share(self, name: str) -> float:
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise self._wrong(name)
        return value

    def digest_or_none(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _is_sha256(value):
            raise self._wrong(name)
        return value

    def file(self, name: str) -> NamedFile | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != {"file", "sha256"}:
            raise self._wrong(name)
        file, digest = value["file"], value["sha256"]
        if not isinstance(file, str) or not isinstance(digest, str) or not _is_sha256(digest):
            raise self._wrong(name)
        if not file or "/" in file or "\0" in file or file in (".", ".."):
            raise self._wrong(name)
        return NamedFile(file, digest)

    def versions(self, name: str) -> dict[str, str]:
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name)
        found = {one: version for one, version in value.items() if isinstance(version, str)}
        if len(found) != len(value):
            raise self._wrong(name)
        return found


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
