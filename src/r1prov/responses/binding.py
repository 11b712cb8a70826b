"""Which manifest an answer is bound to, and whether the weights were verified against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import ResponseError
from r1prov.responses.components import parse_component
from r1prov.responses.content_digest import parse_content_digest
from r1prov.responses.exchange import field_values
from r1prov.responses.structured_fields import parse_item
from r1prov.text import quoted

if TYPE_CHECKING:
    from r1prov.responses.http_signature import SignatureInput
    from r1prov.responses.judge import Judge, Outcome

MANIFEST = "r1prov-manifest"
WEIGHTS = "r1prov-weights"


def check_header_binding(judge: Judge, signed: SignatureInput, outcome: Outcome) -> None:
    """Hold the header fields that a signature covers against the policy."""
    headers = judge.exchange.response.headers
    manifest, weights = (
        field_values(headers, name) if signed.covers(parse_component(name)) else ()
        for name in (MANIFEST, WEIGHTS)
    )
    try:
        check_binding(judge, _sha256(manifest), _state(weights), outcome)
    except ResponseError as error:
        outcome.refuse(error)


def check_binding(
    judge: Judge, manifest_sha256: str | None, weights: str | None, outcome: Outcome
) -> None:
    """Note what a signed binding lacks of what the policy wants.

    Args:
        judge: Has the policy.
        manifest_sha256: Digest of the manifest that is signed, in hex; None if none is.
        weights: `verified` or `stated`, as signed; None if neither is.
        outcome: Takes the findings.
    """
    wanted = judge.policy.manifest_sha256
    if wanted is not None and manifest_sha256 != wanted:
        outcome.add(
            "response-manifest",
            MANIFEST,
            "the signature is not bound to the manifest that the policy asks for",
            expected=f"sha256:{wanted}",
            found="no manifest" if manifest_sha256 is None else f"sha256:{manifest_sha256}",
        )
    elif manifest_sha256 is not None:
        outcome.checked("manifest", f"bound to sha256:{manifest_sha256}")
    if judge.policy.verified_weights and weights != "verified":
        outcome.add(
            "response-weights-stated",
            WEIGHTS,
            "nobody says that the weights were verified against the manifest",
            expected="verified",
            found=quoted(weights) if weights is not None else "nothing",
        )
    elif weights is not None:
        outcome.checked("weights", f"{weights}, as the signer says")


def _sha256(values: tuple[str, ...]) -> str | None:
    """The digest of a covered `R1prov-Manifest`; None where there is none.

    Raises:
        ResponseError: It is malformed.
    """
    if not values:
        return None
    return dict(parse_content_digest(values).known).get("sha-256", b"").hex()


def _state(values: tuple[str, ...]) -> str | None:
    return str(parse_item(values, name=WEIGHTS).value) if values else None
