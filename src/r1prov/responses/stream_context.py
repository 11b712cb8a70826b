"""Hold a signed statement against what the client knows, whatever the bytes of the answer are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.responses.algorithms import ALGORITHMS
from r1prov.text import quoted
from r1prov.verify.findings import Finding, finding

if TYPE_CHECKING:
    from r1prov.responses.expected import Expected
    from r1prov.responses.stream_statement import SignedStatement, StreamStatement


def check_signature(signed: SignedStatement, expected: Expected) -> Finding | None:
    """What is wrong with a statement's signature; None if it is by a trusted key."""
    key = expected.key(signed.key_id)
    if isinstance(key, Finding):
        return key
    if key is None:
        return _refused(
            "response-key-unknown",
            "a statement is signed with a key that is not trusted for this",
            found=quoted(signed.key_id),
        )
    algorithm = ALGORITHMS.get(key.algorithm)
    if algorithm is None or key.is_secret or signed.algorithm not in algorithm.jose:
        return _refused(
            "response-algorithm",
            "a statement names another algorithm than its key's",
            expected=key.algorithm,
            found=quoted(signed.algorithm),
        )
    if not key.verify(signed.signature, signed.signing_input):
        return _refused(
            "response-signature-invalid",
            "the signature of a statement does not fit the key it names",
        )
    return None


def check_subject(said: StreamStatement, expected: Expected) -> Finding | None:
    """What else a statement is about than the answer at hand; None if it is about this one."""
    asked = expected.request
    for name in ("method", "authority", "path", "query", "content_sha256"):
        if getattr(said.request, name) != getattr(asked, name):
            return _refused(
                "response-other-request",
                f"the answer is to another request: its {name} differs",
                expected=quoted(getattr(asked, name)),
                found=quoted(getattr(said.request, name)),
            )
    if asked.nonce is not None and said.request.nonce != asked.nonce:
        return _refused(
            "response-nonce",
            "the answer does not repeat the client's nonce: it may have been given before",
            expected=quoted(asked.nonce),
            found="none" if said.request.nonce is None else quoted(said.request.nonce),
        )
    for name in ("status", "content_type"):
        if getattr(said, name) != getattr(expected, name):
            return _refused(
                "stream-head",
                f"the answer's {name} is not the one that was signed",
                expected=quoted(str(getattr(said, name))),
                found=quoted(str(getattr(expected, name))),
            )
    wanted = expected.manifest_sha256
    if wanted is not None and said.manifest_sha256 != wanted:
        return _refused(
            "response-manifest",
            "the proxy stands for another manifest",
            expected=wanted,
            found=said.manifest_sha256,
        )
    if expected.verified_weights and said.weights != "verified":
        return _refused(
            "response-weights-stated",
            "the proxy names the manifest and did not verify the weights against it",
        )
    return None


def check_time(
    said: StreamStatement, expected: Expected, previous: StreamStatement | None
) -> Finding | None:
    """Why a statement may be one of another time; None if it is of now."""
    now, skew, max_age = expected.now(), expected.skew, expected.max_age
    signed = f"signed at {said.iat}, good until {said.exp}"
    if said.id in expected.seen:
        return _refused("response-replayed", "this answer was accepted before", found=said.id)
    if said.iat > now + skew:
        return _refused(
            "response-from-future",
            "a statement was signed in the future",
            expected=f"at {now:.0f} or before",
            found=signed,
        )
    if previous is not None and said.iat < previous.iat:
        return _refused(
            "stream-order",
            "a statement was signed before the one that precedes it",
            expected=f"signed at {previous.iat} or later",
            found=signed,
        )
    if not expected.live and said.state == "open":
        return None
    if said.exp < now - skew:
        return _refused(
            "response-expired",
            "a statement has expired",
            expected=f"good at {now:.0f}",
            found=signed,
        )
    if said.iat < now - max_age - skew:
        return _refused(
            "response-too-old",
            "a statement is too old",
            expected=f"signed within {max_age:.0f} s of {now:.0f}",
            found=signed,
        )
    return None


def _refused(
    rule: str, message: str, *, expected: str | None = None, found: str | None = None
) -> Finding:
    return finding(rule, "content", message, expected=expected, found=found)
