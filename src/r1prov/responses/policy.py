"""What the signature of an answer has to be: table `[responses]` of `r1prov.toml`.

The default is the profile that RFC 9421 section 1.4 asks an application to fix: status, content,
content type and the request are covered, the time is bounded, the key is known beforehand and
decides about the algorithm, and a shared secret proves nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from r1prov.errors import KeyFileError, ManifestError, PolicyError, ResponseError
from r1prov.limits import MAX_KEY_FILE_BYTES, MAX_POLICY_BYTES, MAX_POLICY_MODELS
from r1prov.manifest.fields import Table, read_toml
from r1prov.responses.algorithms import ALGORITHMS, HMAC
from r1prov.responses.components import Component, parse_component
from r1prov.responses.key_files import parse_key_file
from r1prov.responses.keys import ANY, ResponseKey, address_key, origin_of
from r1prov.responses.webhook import webhook_secret
from r1prov.text import quoted
from r1prov.trust.directories import read_file
from r1prov.verify.policy_file import FILE_NAME, PYPROJECT, SCHEMA_PREFIX, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

HTTP: Final = "http-signature"
JWS: Final = "jws"
ACI: Final = "aci"
NEAR: Final = "near"
WEBHOOK: Final = "webhook"
SCHEMES: Final = (HTTP, ACI, NEAR, JWS, WEBHOOK)
# Those whose signature arrives with the answer; a receipt is fetched afterwards.
IN_HEADERS: Final = frozenset({HTTP, JWS, WEBHOOK})

COVER: Final = (
    *("@status", "content-digest", "content-type"),
    *("@method;req", "@authority;req", "@path;req", "content-digest;req"),
)
# No other scheme can cover more than the two bodies.
COVER_BODIES: Final = ("content-digest", "content-digest;req")
DEFAULT_MAX_AGE: Final = 300
DEFAULT_SKEW: Final = 30
_MOST_SECONDS: Final = 10 * 366 * 24 * 3600

_PIN: Final = r"[A-Za-z0-9_-]{43}|0x[0-9a-fA-F]{40}|sha256:[0-9a-f]{64}"
_FIELD: Final = r"[A-Za-z0-9-]{1,64}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
# As in trust.toml: `*` and `?` only, since a class is easy to get wrong in a trust decision.
_MODEL_GLOB: Final = r"[A-Za-z0-9._:/*?@+-]{1,256}"
_ORIGIN_GLOB: Final = r"\*|https?://[A-Za-z0-9.\[\]:*?-]{1,255}"
_ORIGIN: Final = r"https?://[A-Za-z0-9.\[\]:-]{1,255}"
_NONCES: Final = ("echo", "require", "ignore")
_GATE: Final = ("allow", "refuse")


@dataclass(frozen=True, slots=True)
class Promise:
    """An origin that is known to sign.

    Attributes:
        origin: Scheme, host and port.
        scheme: How.
    """

    origin: str
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePolicy:
    """What counts as a good signature of an answer.

    Attributes:
        keys: Keys that are trusted, and what for.
        pins: Thumbprints, addresses and digests of key sets that make a served key count.
        schemes: Which schemes count.
        tag: The tag that a signature must have; None takes any, if only one can be meant.
        cover: What an HTTP signature must cover.
        cover_jws: What a JWS must.
        cover_receipt: What a receipt must.
        max_age: How old a signature may be.
        skew: How far the clock of the other side may be off.
        nonce: `echo`: the one that the request asked for, if it did; `require`: it must have;
            `ignore`: none is looked at.
        reserialized: Whether a body that matches only when it is written anew is enough.
        jws_field: Header field of a detached JWS.
        aliases: Model asked for, and the name that the answer may give it.
        promised: Origins that are known to sign: an answer without a signature is a downgrade.
        location: Where the policy is from.
    """

    keys: tuple[ResponseKey, ...] = ()
    pins: frozenset[str] = frozenset()
    schemes: tuple[str, ...] = SCHEMES
    tag: str | None = None
    cover: tuple[Component, ...] = tuple(map(parse_component, COVER))
    cover_jws: tuple[Component, ...] = tuple(map(parse_component, COVER_BODIES))
    cover_receipt: tuple[Component, ...] = tuple(map(parse_component, COVER_BODIES))
    max_age: timedelta = timedelta(seconds=DEFAULT_MAX_AGE)
    skew: timedelta = timedelta(seconds=DEFAULT_SKEW)
    nonce: str = "echo"
    reserialized: bool = False
    jws_field: str = "x-jws-signature"
    aliases: dict[str, str] = field(default_factory=dict)
    promised: tuple[Promise, ...] = ()
    location: str = "the default policy"

    def promises(self, origin: str) -> frozenset[str]:
        """The schemes by which an origin is known to sign."""
        return frozenset(one.scheme for one in self.promised if one.origin == origin)


def find_response_policy(named: Path | None = None) -> ResponsePolicy:
    """The policy of this run: `named`, else that of the working directory, else the default.

    Raises:
        NotFound: The named file does not exist.
        PolicyError: It is malformed, or names no table `[responses]`.
    """
    if named is not None:
        return load_response_policy(named)
    for path in (Path(FILE_NAME), Path(PYPROJECT)):
        if os.path.lexists(path):
            raw = read_file(path, MAX_POLICY_BYTES)
            table = _top(raw, path)
            if table is not None and "responses" in table:
                return _parse(table, str(path), path.parent)
    return ResponsePolicy()


def load_response_policy(path: Path) -> ResponsePolicy:
    """Read the table `[responses]` of a policy file.

    Raises:
        NotFound: No such file.
        PolicyError: It is malformed, or has no such table.
    """
    table = _top(read_file(path, MAX_POLICY_BYTES), path)
    if table is None or "responses" not in table:
        raise PolicyError(
            "has no table [responses]",
            subject=str(path),
            hint="without a policy file the default profile holds, with the keys of --keys",
        )
    return _parse(table, str(path), path.parent)


def parse_response_policy(
    raw: bytes, *, subject: str, folder: Path | None = None
) -> ResponsePolicy:
    """Parse the table `[responses]` of the bytes of a policy file.

    Raises:
        PolicyError: It is malformed, or has no such table.
        NotFound: A key file that it names does not exist.
    """
    table = _top(raw, Path(subject))
    if table is None or "responses" not in table:
        raise PolicyError("has no table [responses]", subject=subject)
    return _parse(table, subject, folder or Path())


def _top(raw: bytes, path: Path) -> dict[str, object] | None:
    try:
        values = read_toml(raw, str(path))
    except ManifestError as error:
        raise PolicyError(error.message, subject=error.subject, hint=error.hint) from None
    if path.name != PYPROJECT:
        return values
    tool = values.get("tool")
    table = tool.get("r1prov") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _parse(values: dict[str, object], subject: str, folder: Path) -> ResponsePolicy:
    top = Table(values, "", subject)
    try:
        schema = top.text("schema")
        if schema != f"{SCHEMA_PREFIX}{SCHEMA_VERSION}":
            raise top.error(
                f"schema is {quoted(schema)}, not `{SCHEMA_PREFIX}{SCHEMA_VERSION}`",
                hint="it may be newer than this r1prov: upgrade",
            )
        # The other tables are for `r1prov verify`, whose parser is as strict.
        return _policy(top.table("responses"), subject, folder)
    except (ManifestError, KeyFileError, ResponseError) as error:
        raise PolicyError(error.message, subject=subject, hint=error.hint) from None


def _policy(table: Table, subject: str, folder: Path) -> ResponsePolicy:
    keys = tuple(key for one in _tables(table, "keys") for key in _keys(one, folder))
    promised = tuple(_promise(one) for one in _tables(table, "promised"))
    schemes = table.texts("schemes") or SCHEMES
    unknown = next((one for one in schemes if one not in SCHEMES), None)
    if unknown is not None:
        raise table.error(
            f"`schemes` names {quoted(unknown)}", hint=f"known are {', '.join(SCHEMES)}"
        )
    nonce = table.optional_text("nonce")
    policy = ResponsePolicy(
        keys=keys,
        pins=frozenset(
            pin.lower() if pin.startswith("0x") else pin
            for pin in table.texts("pins", pattern=_PIN)
        ),
        schemes=schemes,
        tag=table.optional_text("tag"),
        cover=_cover(table, "cover", COVER),
        cover_jws=_cover(table, "cover_jws", COVER_BODIES),
        cover_receipt=_cover(table, "cover_receipt", COVER_BODIES),
        max_age=_seconds(table, "max_age", DEFAULT_MAX_AGE),
        skew=_seconds(table, "skew", DEFAULT_SKEW),
        nonce="echo" if nonce is None else table.choice("nonce", _NONCES),
        reserialized=_allows(table, "reserialized"),
        jws_field=(table.optional_text("jws_field", pattern=_FIELD) or "x-jws-signature").lower(),
        aliases=_aliases(table.optional_table("aliases")),
        promised=promised,
        location=subject,
    )
    table.finish()
    return policy


def _tables(table: Table, key: str) -> list[Table]:
    found = table.tables(key)
    if len(found) > MAX_POLICY_MODELS:
        raise table.error(f"`{key}` has {len(found):,} tables; the cap is {MAX_POLICY_MODELS:,}")
    return found


def _cover(table: Table, key: str, default: Sequence[str]) -> tuple[Component, ...]:
    found = table.texts(key) or tuple(default)
    try:
        components = tuple(map(parse_component, found))
    except ResponseError as error:
        raise table.error(f"`{key}`: {error.message}", hint=error.hint) from None
    if not any(one.name == "content-digest" and not one.has("req") for one in components):
        raise table.error(
            f"`{key}` lacks content-digest", hint="a signature that leaves the body open is none"
        )
    return components


def _seconds(table: Table, key: str, default: int) -> timedelta:
    value = table.optional_size(key)
    if value is not None and value > _MOST_SECONDS:
        raise table.error(f"`{key}` is {value:,} seconds; at most ten years are taken")
    return timedelta(seconds=default if value is None else value)


def _allows(table: Table, key: str) -> bool:
    return table.optional_text(key) is not None and table.choice(key, _GATE) == "allow"


def _aliases(table: Table | None) -> dict[str, str]:
    if table is None:
        return {}
    aliases = {name: table.text(name) for name in table.keys_matching(r"[^\x00-\x1f\x7f]{1,256}")}
    table.finish()
    return aliases


def _promise(table: Table) -> Promise:
    promise = Promise(
        origin_of(table.text("origin", pattern=_ORIGIN)), table.choice("scheme", SCHEMES)
    )
    table.finish()
    return promise


def _keys(table: Table, folder: Path) -> list[ResponseKey]:
    """The keys of one entry: a file may be a key set."""
    name = table.optional_text("name")
    found = _material(table, folder, name)
    valid_from, valid_until, revoked_at = (
        table.optional_instant(key) for key in ("valid_from", "valid_until", "revoked_at")
    )
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise table.error("`valid_until` is not after `valid_from`")
    origins = table.texts("origins", pattern=_ORIGIN_GLOB) or ANY
    models = table.texts("models", pattern=_MODEL_GLOB) or ANY
    owner, reason = table.optional_text("owner"), table.optional_text("revoked_reason")
    table.finish()
    return [
        replace(
            key,
            names=key.names | ({name} if name is not None else set()),
            owner=owner or "",
            origins=origins,
            models=models,
            valid_from=valid_from,
            valid_until=valid_until,
            revoked_at=revoked_at,
            revoked_reason=reason,
        )
        for key in found
    ]


def _material(table: Table, folder: Path, name: str | None) -> list[ResponseKey]:
    file = table.optional_text("file")
    address = table.optional_text("address")
    variable = table.optional_text("secret_env", pattern=_VARIABLE)
    algorithm = table.optional_text("algorithm")
    if sum(one is not None for one in (file, address, variable)) != 1:
        raise table.error("names a `file`, an `address` or a `secret_env`, and only one of them")
    if algorithm is not None and (algorithm not in ALGORITHMS or algorithm == HMAC or not file):
        raise table.error(
            f"`algorithm` is {quoted(algorithm)}",
            hint=f"for a `file`, one of {', '.join(a for a in ALGORITHMS if a != HMAC)}",
        )
    if address is not None:
        return [address_key(address, source="policy")]
    if variable is not None:
        secret = os.environ.get(variable)
        if not secret:
            raise table.error(f"the variable {variable} of `secret_env` is not set")
        return [webhook_secret(secret, name=name or variable, source=f"${variable}")]
    path = folder / (file or "")
    keys = parse_key_file(
        read_file(path, MAX_KEY_FILE_BYTES), subject=str(path), algorithm=algorithm
    )
    if len(keys) > 1 and name is not None:
        raise table.error(f"`name` cannot be that of {len(keys)} keys", hint="they have their own")
    return list(keys)
