"""The trust file (`trust.toml`): read strictly, and written so that it reads back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from r1prov.errors import CertificateError, KeyFileError, NameRuleError, TrustFileError
from r1prov.formats.names import check_path
from r1prov.limits import MAX_CHAIN_CERTIFICATES, MAX_TRUST_FILE_BYTES
from r1prov.trust.authorities import RevokedCertificate, TimestampAuthority, TrustedAuthority
from r1prov.trust.certificates import Certificate, parse_certificates
from r1prov.trust.keys import parse_public_key
from r1prov.trust.purpose import Purpose
from r1prov.trust.store import Threshold, TrustedKey, TrustStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SCHEMA = "r1prov/trust/1"
_ID = re.compile(r"[0-9a-f]{64}")
# A serial number has at most 20 bytes (RFC 5280 §4.1.2.2), a fingerprint 32.
_CERTIFICATE = re.compile(r"[0-9a-f]{1,40}|[0-9a-f]{64}")
# `*` and `?` only: a class such as [a-z] is easy to get wrong in a trust decision.
_MODEL_GLOB = re.compile(r"[A-Za-z0-9._*?-]{1,128}")
_MAX_ENTRIES: Final = 1000


def parse_trust_store(raw: bytes, read_file: Callable[[str], bytes], *, subject: str) -> TrustStore:
    """Read a trust file strictly: a misspelt key must not weaken a trust decision.

    Args:
        raw: The bytes of `trust.toml`.
        read_file: Returns the bytes of a key or certificate file named in it.
        subject: Name of the trust file, for messages.

    Raises:
        TrustFileError: It, or a file it names, is malformed.
    """
    import tomli

    if len(raw) > MAX_TRUST_FILE_BYTES:
        raise TrustFileError(f"{subject} is too large", subject=subject)
    try:
        top = tomli.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrustFileError(f"{subject} is not TOML: {error}", subject=subject) from None
    table = _Table(top, "the file", subject)
    table.only("schema", "keys", "authorities", "timestamp_authorities", "thresholds")
    if table.text("schema") != SCHEMA:
        raise table.error(f"schema is not `{SCHEMA}`")
    keys = tuple(_trusted_key(one, read_file) for one in table.tables("keys"))
    for key_id in _twice(one.key.key_id for one in keys):
        raise table.error(f"has key {key_id} twice")
    clocks = tuple(
        _timestamp_authority(one, read_file) for one in table.tables("timestamp_authorities")
    )
    for root in _twice(one.id for one in clocks):
        raise table.error(f"has timestamp authority {root} twice")
    thresholds = []
    for one in table.tables("thresholds"):
        one.only("models", "signatures")
        thresholds.append(Threshold(one.globs("models"), one.count("signatures")))
    return TrustStore(
        keys,
        tuple(thresholds),
        (subject,),
        tuple(_authority(one, read_file) for one in table.tables("authorities")),
        clocks,
    )


def _twice(ids: Iterable[str]) -> Iterator[str]:
    """What stands in a list more than once."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            yield one
        seen.add(one)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What every entry of a trust file has."""

    id: str
    file: str
    raw: bytes
    owner: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None
    revoked_reason: str | None
    invalid_from: datetime | None


_OF_ENTRY: Final = (
    *("id", "file", "owner", "valid_from", "valid_until"),
    *("revoked_at", "revoked_reason"),
)


def _entry(table: _Table, read_file: Callable[[str], bytes]) -> _Entry:
    identity, file = table.text("id"), table.text("file")
    if not _ID.fullmatch(identity):
        raise table.error("`id` is not 64 lower-case hex digits")
    try:
        check_path(file)
    except NameRuleError as error:
        raise table.error(f"`file`: {error.message}") from None
    if "/" in file:
        raise table.error("`file` must lie beside the trust file")
    valid_from, valid_until = table.instant("valid_from"), table.instant("valid_until")
    if valid_until <= valid_from:
        raise table.error("`valid_until` is not after `valid_from`")
    revoked_at = table.instant("revoked_at") if table.has("revoked_at") else None
    if (revoked_at is None) != (not table.has("revoked_reason")):
        raise table.error("`revoked_at` and `revoked_reason` go together")
    return _Entry(
        id=identity,
        file=file,
        raw=read_file(file),
        owner=table.text("owner"),
        valid_from=valid_from,
        valid_until=valid_until,
        revoked_at=revoked_at,
        revoked_reason=table.text("revoked_reason") if revoked_at else None,
        invalid_from=table.invalid_from(revoked_at),
    )


def _trusted_key(table: _Table, read_file: Callable[[str], bytes]) -> TrustedKey:
    table.only(*_OF_ENTRY, "invalid_from", "models", "may")
    entry = _entry(table, read_file)
    try:
        key = parse_public_key(entry.raw, subject=entry.file)
    except KeyFileError as error:
        raise TrustFileError(error.message, subject=entry.file, hint=error.hint) from None
    if key.key_id != entry.id:
        raise table.error(f"`id` is {entry.id}, and the key in {entry.file} has {key.key_id}")
    return TrustedKey(
        key=key,
        file=entry.file,
        owner=entry.owner,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        revoked_at=entry.revoked_at,
        revoked_reason=entry.revoked_reason,
        invalid_from=entry.invalid_from,
        models=table.globs("models"),
        may=table.purposes("may") if table.has("may") else tuple(Purpose),
    )


def _authority(table: _Table, read_file: Callable[[str], bytes]) -> TrustedAuthority:
    table.only(*_OF_ENTRY, "invalid_from", "models", "identities", "subjects", "revoked")
    entry = _entry(table, read_file)
    root, issuers = _root(table, entry)
    identities, subjects = table.texts("identities"), table.texts("subjects")
    if not identities and not subjects:
        raise table.error(
            "names no signer: `identities` (e-mail addresses, URIs, DNS names) or `subjects`"
        )
    return TrustedAuthority(
        root=root,
        issuers=issuers,
        file=entry.file,
        owner=entry.owner,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        models=table.globs("models"),
        identities=identities,
        subjects=subjects,
        revoked_at=entry.revoked_at,
        revoked_reason=entry.revoked_reason,
        invalid_from=entry.invalid_from,
        revoked=tuple(_revoked(one) for one in table.tables("revoked")),
    )


def _revoked(table: _Table) -> RevokedCertificate:
    table.only("certificate", "revoked_at", "reason", "invalid_from")
    certificate = table.text("certificate")
    if not _CERTIFICATE.fullmatch(certificate):
        raise table.error(
            "`certificate` is neither a SHA-256 (64 lower-case hex digits) nor a serial number "
            "(at most 40)"
        )
    revoked_at = table.instant("revoked_at")
    return RevokedCertificate(
        certificate, revoked_at, table.text("reason"), table.invalid_from(revoked_at)
    )


def _timestamp_authority(table: _Table, read_file: Callable[[str], bytes]) -> TimestampAuthority:
    table.only(*_OF_ENTRY)
    entry = _entry(table, read_file)
    root, issuers = _root(table, entry)
    return TimestampAuthority(
        root=root,
        issuers=issuers,
        file=entry.file,
        owner=entry.owner,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        revoked_at=entry.revoked_at,
        revoked_reason=entry.revoked_reason,
    )


def _root(table: _Table, entry: _Entry) -> tuple[Certificate, tuple[Certificate, ...]]:
    """The root in a certificate file, and the others beside it."""
    try:
        return split_root(parse_certificates(entry.raw, subject=entry.file), entry.file, entry.id)
    except CertificateError as error:
        raise TrustFileError(
            f"{table.place}: {error.message}", subject=entry.file, hint=error.hint
        ) from None


def split_root(
    certificates: Sequence[Certificate], file: str, fingerprint: str | None = None
) -> tuple[Certificate, tuple[Certificate, ...]]:
    """The one root in a certificate file, and what helps to find a path to it.

    Args:
        certificates: The certificates of the file.
        file: Its name, for messages.
        fingerprint: What the root must be, if that is known.

    Raises:
        CertificateError: Not one root in it, another one, or too many certificates.
    """
    roots = {one for one in certificates if one.self_signed}
    if len(roots) != 1:
        raise CertificateError(
            f"{file} has {len(roots)} root certificates, not one",
            subject=file,
            hint="a root certificate is signed by itself; give each its own file",
        )
    if len(certificates) > MAX_CHAIN_CERTIFICATES:
        raise CertificateError(
            f"{file} has {len(certificates)} certificates; the cap is {MAX_CHAIN_CERTIFICATES}",
            subject=file,
        )
    (root,) = roots
    if fingerprint not in (None, root.fingerprint):
        raise CertificateError(
            f"`id` is {fingerprint}, and the root in {file} has {root.fingerprint}", subject=file
        )
    return root, tuple(one for one in certificates if one != root)


class _Table:
    """One TOML table, read with errors that name the file and the place."""

    def __init__(self, value: dict[str, object], where: str, subject: str) -> None:
        self._value = value
        self._where = where
        self._subject = subject

    @property
    def place(self) -> str:
        return f"{self._subject}, {self._where}"

    def error(self, message: str) -> TrustFileError:
        return TrustFileError(f"{self.place}: {message}", subject=self._subject)

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
        if type(value) is not int or not 1 <= value <= _MAX_ENTRIES:
            raise self.error(f"`{name}` is missing or not a number from 1 to {_MAX_ENTRIES}")
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

    def invalid_from(self, revoked_at: datetime | None) -> datetime | None:
        """Since when a revoked key is not to be believed."""
        if not self.has("invalid_from"):
            return None
        since = self.instant("invalid_from")
        if revoked_at is None or since > revoked_at:
            raise self.error("`invalid_from` is not before a `revoked_at`")
        return since

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._value.get(name, [])
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise self.error(f"`{name}` is not a list of at most {_MAX_ENTRIES:,} strings")
        for one in value:
            if not isinstance(one, str) or not one or not one.isprintable() or len(one) > 1024:
                raise self.error(f"`{name}` has {one!r}, which is no printable string")
        return tuple(value)

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
        if len(value) > _MAX_ENTRIES:
            raise self.error(f"has {len(value):,} {name}; the cap is {_MAX_ENTRIES:,}")
        return [_Table(one, f"{name}[{i}]", self._subject) for i, one in enumerate(value)]


def trust_store_toml(store: TrustStore) -> bytes:
    """A trust file of a store; `parse_trust_store` reads it back.

    Raises:
        TrustFileError: A value that no trust file may hold.
    """
    lines = [f'schema = "{SCHEMA}"']
    for one in sorted(store.keys, key=lambda key: key.key.key_id):
        lines += ["", "[[keys]]", *_entry_lines(one, one.key.key_id)]
        lines += _invalid_from(one.invalid_from)
        lines.append(f"models = {_list(one.models)}")
        if set(one.may) != {*Purpose}:  # what nobody asked for is not written
            lines.append(f"may = {_list(one.may)}")
    for authority in sorted(store.authorities, key=lambda one: one.id):
        lines += ["", "[[authorities]]", *_entry_lines(authority, authority.id)]
        lines += _invalid_from(authority.invalid_from)
        lines.append(f"models = {_list(authority.models)}")
        if authority.identities:
            lines.append(f"identities = {_list(authority.identities)}")
        if authority.subjects:
            lines.append(f"subjects = {_list(authority.subjects)}")
        for gone in authority.revoked:
            lines += [
                "",
                "[[authorities.revoked]]",
                f"certificate = {_quoted(gone.certificate)}",
                f"revoked_at = {_instant(gone.revoked_at)}",
                f"reason = {_quoted(gone.reason)}",
                *_invalid_from(gone.invalid_from),
            ]
    for clock in sorted(store.timestamp_authorities, key=lambda one: one.id):
        lines += ["", "[[timestamp_authorities]]", *_entry_lines(clock, clock.id)]
    for threshold in store.thresholds:
        lines += [
            "",
            "[[thresholds]]",
            f"models = {_list(threshold.models)}",
            f"signatures = {threshold.signatures}",
        ]
    raw = ("\n".join(lines) + "\n").encode()
    files = {one.file: one.key.pem() for one in store.keys}
    files |= {one.file: certificate_file(one) for one in store.authorities}
    files |= {one.file: certificate_file(one) for one in store.timestamp_authorities}
    parse_trust_store(raw, files.__getitem__, subject="the new trust file")
    return raw


def certificate_file(authority: TrustedAuthority | TimestampAuthority) -> bytes:
    """The certificate file of an authority: the root, then what helps to find a path to it."""
    return b"".join(one.pem() for one in (authority.root, *authority.issuers))


def _entry_lines(
    one: TrustedKey | TrustedAuthority | TimestampAuthority, identity: str
) -> Iterator[str]:
    yield f'id = "{identity}"'
    yield f"file = {_quoted(one.file)}"
    yield f"owner = {_quoted(one.owner)}"
    yield f"valid_from = {_instant(one.valid_from)}"
    yield f"valid_until = {_instant(one.valid_until)}"
    if one.revoked_at is not None:
        yield f"revoked_at = {_instant(one.revoked_at)}"
        yield f"revoked_reason = {_quoted(one.revoked_reason or 'not stated')}"


def _invalid_from(since: datetime | None) -> list[str]:
    return [] if since is None else [f"invalid_from = {_instant(since)}"]


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise TrustFileError("has a character that cannot be printed", subject=text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _instant(value: datetime) -> str:
    # Not strftime: it drops fractions and, before the year 1000, a leading zero.
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
