"""Signatures, keys and timestamps in the document about a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_page import Markup, Page, code, lines, mark
from r1prov.trust.states import SignatureState, TimestampState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from r1prov.evidence.statement import Signature
    from r1prov.render.evidence_dossier import Dossier

_KEYS: Final = 30
_SIGNS: Final = {
    TimestampState.GOOD: "yes",
    TimestampState.INVALID: "no",
    TimestampState.UNTRUSTED: "warn",
    TimestampState.UNCHECKED: "warn",
}


def signatures(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Who signed the bundle and the manifest, and with which keys that was checked."""
    result, report = dossier.result, dossier.result.report
    rows = [_row(page, "s-bundle", result.signature)]
    rows += [_row(page, "s-counter", one) for one in result.countersignatures]
    use = report.manifest if report else None
    if use is not None:
        signers: Sequence[str] = [page.told(one) for one in use.signers] or [page.say("s-unsigned")]
        sign = mark("yes", page.say("good")) if use.trusted else mark("no", page.say("not-counted"))
        rows.append((page.say("s-manifest"), lines(signers), sign))
    yield page.table("signatures", ("s-what", "s-who", "s-state"), rows)
    yield from _certificates(page, dossier)
    if report is not None and report.provenance:
        yield page.facts([("s-provenance", lines(page.told(one) for one in report.provenance))])
    yield Markup(f"<h3>{page.say('s-pinned')}</h3>")
    pinned = list(_pinned(page, dossier))
    if not pinned:
        yield page.paragraph("s-pinned-none")
        return
    yield page.table("pinned", ("s-owner", "s-kind", "s-key", "s-models"), pinned[:_KEYS])
    if len(pinned) > _KEYS:
        yield page.paragraph("s-more", count=f"{len(pinned) - _KEYS:,}")
    yield page.paragraph("s-trust")


def _row(page: Page, what: str, one: Signature) -> tuple[Markup, Markup, Markup]:
    good = one.state is SignatureState.GOOD
    # A countersigner whom nobody here knows counts for nothing, and takes nothing away.
    unknown = one.state is SignatureState.UNKNOWN_KEY and what == "s-counter"
    sign = mark("yes", page.say("good")) if good else mark("no", page.say("not-counted"))
    if unknown:
        sign = mark("gap", page.say("not-counted"))
    names = one.check.identities if one.check else ()
    who = lines((one.owner or "—", *names, code(one.key_id)))
    return page.say(what), who, lines((sign, page.told(one.detail)))


def _certificates(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """The certificates that signatures come with, as far as the authorities that are pinned."""
    rows = [
        (
            code(member) if not number else "",
            one.subject or "—",
            one.issuer or "—",
            f"{one.not_before:%Y-%m-%d} – {one.not_after:%Y-%m-%d}",
            code(one.fingerprint),
        )
        for member, chain in dossier.chains.items()
        for number, one in enumerate(chain)
    ]
    if rows:
        yield Markup(f"<h3>{page.say('s-chain')}</h3>")
        heads = ("s-file", "s-holder", "s-issuer", "s-valid", "s-fingerprint")
        yield page.table("certificates", heads, rows)
        yield page.paragraph("s-chain-note")


def _pinned(page: Page, dossier: Dossier) -> Iterator[tuple[str, ...]]:
    keys = sorted(dossier.pinned, key=lambda one: (one.owner, one.key.key_id))
    for key in keys:
        kind = page.say("s-kind-key")
        yield key.owner, kind, code(key.key.key_id), ", ".join(key.models)
    for one in dossier.authorities:
        named = (*one.models, *one.identities, *one.subjects)
        yield one.owner, page.say("s-kind-authority"), code(one.root.fingerprint), lines(named)
    for clock in dossier.clocks:
        root = code(clock.root.fingerprint)
        yield clock.owner, page.say("s-kind-clock"), root, "—"


def timestamps(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """What timestamps over the signatures prove."""
    result = dossier.result
    if not result.signature.timestamps:
        yield page.paragraph("t-none")
    every = [
        (page.say(what), stamp)
        for what, signatures in (
            ("s-bundle", (result.signature,)),
            ("s-counter", result.countersignatures),
        )
        for signature in signatures
        for stamp in signature.timestamps
    ]
    rows = (
        (
            what,
            f"{one.time:%Y-%m-%d %H:%M:%S} UTC" if one.time else "—",
            mark(_SIGNS[one.state], page.say(one.state.value)),
            page.told(one.detail),
        )
        for what, one in every
    )
    if every:
        yield page.table("timestamps", ("t-what", "t-time", "c-state", "c-detail"), rows)
