"""Whom a trust store trusts, and what stands in a certificate, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.text import printable, table
from r1prov.trust.authorities import TimestampAuthority
from r1prov.trust.purpose import Purpose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from r1prov.trust.authorities import TrustedAuthority
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.store import TrustedKey, TrustStore


def only(may: Sequence[Purpose]) -> str:
    """What a key is limited to, to stand behind its models; nothing if it is not."""
    return "" if len(may) == len(Purpose) else f" ({', '.join(may)} only)"


def render_trust_store(store: TrustStore, now: datetime) -> str:
    """Every key and authority, what each may sign, and whether it counts now."""
    rows: list[tuple[str, ...]] = [("key id", "owner", "valid until", "may sign", "state")]
    rows += [
        _row(key, key.key.key_id, " ".join(key.models) + only(key.may), now) for key in store.keys
    ]
    parts = [table(rows)] if store.keys or not store.authorities else []
    if store.authorities:
        rows = [("authority", "owner", "valid until", "may sign, as whom", "state")]
        for one in store.authorities:
            whom = ", ".join((*one.identities, *one.subjects)) or "nobody"
            rows.append(_row(one, one.id, f"{' '.join(one.models)} as {whom}", now))
            rows += [
                (
                    f"  certificate {gone.certificate}",
                    "",
                    "",
                    "",
                    _revoked(gone.revoked_at, gone.reason, gone.invalid_from),
                )
                for gone in one.revoked
            ]
        parts.append(table(rows))
    if store.timestamp_authorities:
        rows = [("timestamp authority", "owner", "valid until", "proves", "state")]
        rows += [_row(one, one.id, "time", now) for one in store.timestamp_authorities]
        parts.append(table(rows))
    return "\n\n".join(parts) + "\n"


def _row(
    one: TrustedKey | TrustedAuthority | TimestampAuthority, id_: str, what: str, now: datetime
) -> tuple[str, ...]:
    return (
        id_,
        printable(one.owner),
        f"{one.valid_until:%Y-%m-%d}",
        printable(what),
        printable(_state(one, now)),
    )


def _state(one: TrustedKey | TrustedAuthority | TimestampAuthority, now: datetime) -> str:
    if one.revoked_at is not None:
        since = None if isinstance(one, TimestampAuthority) else one.invalid_from
        return _revoked(one.revoked_at, one.revoked_reason or "", since)
    if now >= one.valid_until:
        return "expired"
    return "not valid yet" if now < one.valid_from else "good"


def _revoked(day: datetime, reason: str, since: datetime | None) -> str:
    but = f", but for what is timestamped before {since:%Y-%m-%d %H:%MZ}" if since else ""
    return f"revoked {day:%Y-%m-%d}: {printable(reason)}{but}"


def render_certificates(certificates: Sequence[Certificate]) -> str:
    """What stands in certificates; nothing of it is verified."""
    return "\n".join(map(_certificate, certificates))


def _certificate(one: Certificate) -> str:
    kind = "signer" if not one.authority else "root" if one.self_signed else "issuer"
    rows = [
        ("subject", one.subject),
        ("issuer", one.issuer),
        ("kind", kind),
        *(("identity", name) for name in one.identities),
        ("valid", f"{one.not_before:%Y-%m-%d %H:%MZ} to {one.not_after:%Y-%m-%d %H:%MZ}"),
        ("purposes", ", ".join(sorted(one.purposes)) if one.purposes is not None else "any"),
        ("serial", f"{one.serial:x}"),
        ("sha256", one.fingerprint),
        ("algorithm", one.key.algorithm),
        ("key id", one.key.key_id),
        *((("refused", one.fault),) if one.fault else ()),
    ]
    return "".join(f"{label:<10} {printable(value, limit=1000)}\n" for label, value in rows)
