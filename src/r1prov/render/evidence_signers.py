"""Signatures, keys and timestamps in the document about a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_page import Markup, Page, code, lines, mark
from r1prov.render.evidence_words import in_chinese
from r1prov.trust.states import SignatureState, TimestampState

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    signature, report = dossier.result.signature, dossier.result.report
    good = signature.state is SignatureState.GOOD
    sign = mark("yes", page.say("good")) if good else mark("no", page.say("not-counted"))
    said = page.both(in_chinese(signature.detail), signature.detail)
    who = (signature.owner or "—", code(signature.key_id))
    rows = [(page.say("s-bundle"), lines(who), lines((sign, said)))]
    use = report.manifest if report else None
    if use is not None:
        signers = use.signers or (page.say("s-unsigned"),)
        sign = mark("yes", page.say("good")) if use.trusted else mark("no", page.say("not-counted"))
        rows.append((page.say("s-manifest"), lines(signers), sign))
    yield page.table("signatures", ("s-what", "s-who", "s-state"), rows)
    if report is not None and report.provenance:
        yield page.facts(
            [("s-provenance", lines(page.both(None, one) for one in report.provenance))]
        )
    yield Markup(f"<h3>{page.say('s-pinned')}</h3>")
    if not dossier.pinned:
        yield page.paragraph("s-pinned-none")
        return
    keys = sorted(dossier.pinned, key=lambda one: (one.owner, one.key.key_id))
    yield page.table(
        "pinned",
        ("s-owner", "s-key", "s-models"),
        ((one.owner, code(one.key.key_id), ", ".join(one.models)) for one in keys[:_KEYS]),
    )
    if len(keys) > _KEYS:
        yield page.paragraph("s-more", count=f"{len(keys) - _KEYS:,}")
    yield page.paragraph("s-trust")


def timestamps(page: Page, signature: Signature) -> Iterator[Markup]:
    """What timestamps over the signature prove."""
    if not signature.timestamps:
        yield page.paragraph("t-none")
        return
    rows = (
        (
            f"{one.time:%Y-%m-%d %H:%M:%S} UTC" if one.time else "—",
            mark(_SIGNS[one.state], page.say(one.state.value)),
            page.both(None, one.detail),
        )
        for one in signature.timestamps
    )
    yield page.table("timestamps", ("t-time", "c-state", "c-detail"), rows)
