"""The trust store: which keys are trusted, what each may sign, since and until when.

Pure: bytes in, decision out. There is no trusted timestamp in a signature yet, so the validity of
a key is judged at the time of the check: a signature of an expired key does not count, however old
it says it is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from r1prov.errors import KeyFileError, NameRuleError, TrustFileError
from r1prov.formats.names import check_path
from r1prov.limits import MAX_TRUST_FILE_BYTES
from r1prov.trust.keys import PublicKey, parse_public_key
from r1prov.trust.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from r1prov.trust.bundle import MessageBundle

SCHEMA = "r1prov/trust/1"
_KEY_ID = re.compile(r"[0-9a-f]{64}")
# `*` and `?` only: a class such as [a-z] is easy to get wrong in a trust decision.
_MODEL_GLOB = re.compile(r"[A-Za-z0-9._*?-]{1,128}")
_MAX_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key and what it is trusted for.

    Attributes:
        key: The public key.
        file: Its file, beside the trust file.
        owner: Whose it is.
        valid_from: First moment of validity.
        valid_until: First moment after it.
        revoked_at: When it was revoked; None if it is not.
        revoked_reason: Why.
        models: Patterns (`*`, `?`) of model names that it may sign.
        may: What of such models it may sign.
    """

    key: PublicKey
    file: str
    owner: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    models: tuple[str, ...]
    may: tuple[Purpose, ...] = tuple(Purpose)


@dataclass(frozen=True, slots=True)
class Threshold:
    """How many different keys must have signed, for models whose name matches."""

    models: tuple[str, ...]
    signatures: int


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Trusted keys, thresholds, and the trust files they come from."""

    keys: tuple[TrustedKey, ...]
    thresholds: tuple[Threshold, ...]
    locations: tuple[str, ...]

    def threshold(self, model: str) -> int:
        """Signatures that a model needs: the highest threshold that matches its name, else 1."""
        return max(
            (one.signatures for one in self.thresholds if _matches(model, one.models)), default=1
        )


class SignatureState(Enum):
    """What became of one signature. Only `GOOD` counts."""

    GOOD = "good"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_KEY = "unknown key"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    REVOKED = "revoked"
    OUT_OF_SCOPE = "out of scope"


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """One signature and what became of it.

    Attributes:
        bundle: Name of the bundle file.
        key_id: Key that made it, or the key the bundle names.
        owner: Owner of that key; None if the key is unknown.
        state: What became of it.
        detail: One sentence.
    """

    bundle: str
    key_id: str
    owner: str | None
    state: SignatureState
    detail: str


@dataclass(frozen=True, slots=True)
class TrustDecision:
    """Whether enough trusted keys signed, and what became of each signature."""

    trusted: bool
    checks: tuple[SignatureCheck, ...]
    good_keys: int
    threshold: int


def decide(
    store: TrustStore,
    *,
    model: str,
    data: bytes,
    bundles: Sequence[tuple[str, MessageBundle]],
    now: datetime,
) -> TrustDecision:
    """Decide whether `data`, a manifest of `model`, is signed by enough trusted keys.

    Different keys are counted by their bytes: one key twice, or under two names, counts once.

    Args:
        store: Whom we trust.
        model: Model name in the manifest.
        data: The exact bytes of the manifest file.
        bundles: File name and content of each signature.
        now: When validity is judged.
    """
    digest = hashlib.sha256(data).digest()
    checks = []
    good: set[bytes] = set()
    for name, bundle in bundles:
        check, key = _check(store, model, data, digest, name, bundle, now)
        checks.append(check)
        if check.state is SignatureState.GOOD and key is not None:
            good.add(key.key.spki)
    threshold = store.threshold(model)
    return TrustDecision(len(good) >= threshold, tuple(checks), len(good), threshold)


def _check(
    store: TrustStore,
    model: str,
    data: bytes,
    digest: bytes,
    name: str,
    bundle: MessageBundle,
    now: datetime,
) -> tuple[SignatureCheck, TrustedKey | None]:
    """Find the key that made a signature, and whether it may."""
    hinted = [one for one in store.keys if one.key.key_id == bundle.key_hint]
    if bundle.digest != digest:
        owner = hinted[0].owner if hinted else None
        detail = "the file is not the one that was signed: its SHA-256 is another"
        state = SignatureState.BAD_SIGNATURE
        return SignatureCheck(name, bundle.key_hint, owner, state, detail), None
    # The hint is only a hint: without a match every trusted key is tried.
    for key in hinted or store.keys:
        if key.key.verify(bundle.signature, data):
            state, detail = standing(key, model, now)
            return SignatureCheck(name, key.key.key_id, key.owner, state, detail), key
    if hinted:
        detail = f"not a signature by the key it names, of {hinted[0].owner}"
        state = SignatureState.BAD_SIGNATURE
        return SignatureCheck(name, bundle.key_hint, hinted[0].owner, state, detail), None
    detail = f"signed by key {bundle.key_hint or '(unnamed)'}, which is not in the trust store"
    return SignatureCheck(name, bundle.key_hint, None, SignatureState.UNKNOWN_KEY, detail), None


def standing(
    key: TrustedKey, model: str, now: datetime, purpose: Purpose = Purpose.MANIFESTS
) -> tuple[SignatureState, str]:
    """Whether a key may sign for a model now, and one sentence on it."""
    who = f"key {key.key.key_id8} of {key.owner}"
    if key.revoked_at is not None:
        day = f"{key.revoked_at:%Y-%m-%d}"
        return SignatureState.REVOKED, f"{who} was revoked on {day}: {key.revoked_reason}"
    if now < key.valid_from:
        return SignatureState.NOT_YET_VALID, f"{who} is valid from {key.valid_from:%Y-%m-%d %H:%MZ}"
    if now >= key.valid_until:
        until = f"{key.valid_until:%Y-%m-%d %H:%MZ}"
        detail = f"{who} was valid until {until}, and nothing proves that it signed before"
        return SignatureState.EXPIRED, detail
    if not _matches(model, key.models):
        return SignatureState.OUT_OF_SCOPE, f"{who} may sign {', '.join(key.models)}, not {model}"
    if purpose not in key.may:
        return SignatureState.OUT_OF_SCOPE, f"{who} may sign {', '.join(key.may)}, not {purpose}"
    return SignatureState.GOOD, f"good signature of {who}"


def _matches(model: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(model, glob) for glob in globs)


def merge(stores: Iterable[TrustStore]) -> TrustStore:
    """Several stores as one. A key in any is trusted.

    Of the same key the later store's entry counts, so that a user can narrow what a shipped key
    may do; a revocation in any store wins.
    """
    keys: dict[bytes, TrustedKey] = {}
    thresholds: list[Threshold] = []
    locations: list[str] = []
    for store in stores:
        for key in store.keys:
            known = keys.get(key.key.spki)
            if known is None or known.revoked_at is None:
                keys[key.key.spki] = key
        thresholds += store.thresholds
        locations += store.locations
    return TrustStore(tuple(keys.values()), tuple(thresholds), tuple(locations))


def parse_trust_store(raw: bytes, read_key: Callable[[str], bytes], *, subject: str) -> TrustStore:
    """Read a trust file strictly: a misspelt key must not weaken a trust decision.

    Args:
        raw: The bytes of `trust.toml`.
        read_key: Returns the bytes of a key file named in it.
        subject: Name of the trust file, for messages.

    Raises:
        TrustFileError: It, or a key file it names, is malformed.
    """
    import tomli

    if len(raw) > MAX_TRUST_FILE_BYTES:
        raise TrustFileError(f"{subject} is too large", subject=subject)
    try:
        top = tomli.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrustFileError(f"{subject} is not TOML: {error}", subject=subject) from None
    table = _Table(top, "the file", subject)
    table.only("schema", "keys", "thresholds")
    if table.text("schema") != SCHEMA:
        raise table.error(f"schema is not `{SCHEMA}`")
    keys = tuple(_trusted_key(one, read_key) for one in table.tables("keys"))
    if len(keys) > _MAX_KEYS:
        raise table.error(f"has {len(keys):,} keys; the cap is {_MAX_KEYS:,}")
    ids = [one.key.key_id for one in keys]
    for key_id in ids:
        if ids.count(key_id) > 1:
            raise table.error(f"has key {key_id} twice")
    thresholds = []
    for one in table.tables("thresholds"):
        one.only("models", "signatures")
        thresholds.append(Threshold(one.globs("models"), one.count("signatures")))
    return TrustStore(keys, tuple(thresholds), (subject,))


def _trusted_key(table: _Table, read_key: Callable[[str], bytes]) -> TrustedKey:
    table.only(
        *("id", "file", "owner", "valid_from", "valid_until"),
        *("revoked_at", "revoked_reason", "models", "may"),
    )
    key_id, file = table.text("id"), table.text("file")
    if not _KEY_ID.fullmatch(key_id):
        raise table.error("`id` is not 64 lower-case hex digits")
    try:
        check_path(file)
    except NameRuleError as error:
        raise table.error(f"`file`: {error.message}") from None
    if "/" in file:
        raise table.error("`file` must lie beside the trust file")
    try:
        key = parse_public_key(read_key(file), subject=file)
    except KeyFileError as error:
        raise TrustFileError(error.message, subject=file, hint=error.hint) from None
    if key.key_id != key_id:
        raise table.error(f"`id` is {key_id}, and the key in {file} has {key.key_id}")
    valid_from, valid_until = table.instant("valid_from"), table.instant("valid_until")
    if valid_until <= valid_from:
        raise table.error("`valid_until` is not after `valid_from`")
    revoked_at = table.instant("revoked_at") if table.has("revoked_at") else None
    if (revoked_at is None) != (not table.has("revoked_reason")):
        raise table.error("`revoked_at` and `revoked_reason` go together")
    return TrustedKey(
        key=key,
        file=file,
        owner=table.text("owner"),
        valid_from=valid_from,
        valid_until=valid_until,
        revoked_at=revoked_at,
        revoked_reason=table.text("revoked_reason") if revoked_at else None,
        models=table.globs("models"),
        may=table.purposes("may") if table.has("may") else tuple(Purpose),
    )


class _Table:
    """One TOML table, read with errors that name the file and the place."""

    def __init__(self, value: dict[str, object], where: str, subject: str) -> None:
        self._value = value
        self._where = where
        self._subject = subject

    def error(self, message: str) -> TrustFileError:
        return TrustFileError(f"{self._subject}, {self._where}: {message}", subject=self._subject)

    def has(self, name: str) -> bool:
        return name in self._value

    def only(self, *known: str) -> None:
        unknown = sorted(self._value.keys() - set(known))
        if unknown:
            raise self.error(f"unknown key `{unknown[0]}`")

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 1024:
            raise self.error(f"`{name}` is missing or not a printable string")
        return value

    def count(self, name: str) -> int:
        value = self._value.get(name)
        if type(value) is not int or not 1 <= value <= _MAX_KEYS:
            raise self.error(f"`{name}` is missing or not a number from 1 to {_MAX_KEYS}")
        return value

    def instant(self, name: str) -> datetime:
        value = self._value.get(name)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self.error(
                f"`{name}` is missing or not a time with an offset, such as …T00:00:00Z"
            )
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise self.error(f"`{name}` is out of range") from None

    def globs(self, name: str) -> tuple[str, ...]:
        value = self._value.get(name)
        if not isinstance(value, list) or not value:
            raise self.error(f"`{name}` is missing or not a list of model names")
        for one in value:
            if not isinstance(one, str) or not _MODEL_GLOB.fullmatch(one):
                raise self.error(f"`{name}`: {one!r} is not a model name with `*` or `?`")
        return tuple(value)

    def purposes(self, name: str) -> tuple[Purpose, ...]:
        value = self._value[name]
        if not isinstance(value, list) or not value or not {*Purpose}.issuperset(map(str, value)):
            raise self.error(f"`{name}` is not a list of {' and '.join(Purpose)}")
        return tuple(one for one in Purpose if one in value)

    def tables(self, name: str) -> list[_Table]:
        value = self._value.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.error(f"`{name}` is not a list of tables")
        return [_Table(one, f"{name}[{i}]", self._subject) for i, one in enumerate(value)]


def trust_store_toml(store: TrustStore) -> bytes:
    """A trust file with the keys and thresholds of a store; `parse_trust_store` reads it back.

    Raises:
        TrustFileError: A value that no trust file may hold.
    """
    lines = [f'schema = "{SCHEMA}"']
    for one in sorted(store.keys, key=lambda key: key.key.key_id):
        lines += [
            "",
            "[[keys]]",
            f'id = "{one.key.key_id}"',
            f"file = {_quoted(one.file)}",
            f"owner = {_quoted(one.owner)}",
            f"valid_from = {_instant(one.valid_from)}",
            f"valid_until = {_instant(one.valid_until)}",
        ]
        if one.revoked_at is not None:
            lines += [
                f"revoked_at = {_instant(one.revoked_at)}",
                f"revoked_reason = {_quoted(one.revoked_reason or 'not stated')}",
            ]
        lines.append(f"models = [{', '.join(map(_quoted, one.models))}]")
        if set(one.may) != {*Purpose}:  # what nobody asked for is not written
            lines.append(f"may = [{', '.join(map(_quoted, one.may))}]")
    for threshold in store.thresholds:
        lines += [
            "",
            "[[thresholds]]",
            f"models = [{', '.join(map(_quoted, threshold.models))}]",
            f"signatures = {threshold.signatures}",
        ]
    raw = ("\n".join(lines) + "\n").encode()
    pems = {one.file: one.key.pem() for one in store.keys}
    parse_trust_store(raw, pems.__getitem__, subject="the new trust file")
    return raw


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise TrustFileError("has a character that cannot be printed", subject=text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _instant(value: datetime) -> str:
    # Not strftime: it drops fractions and, before the year 1000, a leading zero.
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
