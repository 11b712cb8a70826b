"""An answer signed by HTTP Message Signatures (RFC 9421), judged by the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from r1prov.errors import ResponseError
from r1prov.responses.binding import check_header_binding
from r1prov.responses.components import Component, MissingPart, parse_component
from r1prov.responses.content_digest import (
    FIELD,
    SIZES,
    ContentDigest,
    parse_content_digest,
    read_content_digest,
)
from r1prov.responses.exchange import field_values
from r1prov.responses.http_signature import (
    HttpSignature,
    SignatureInput,
    read_signatures,
    verify_signature,
)
from r1prov.responses.judge import REQUEST_BODY, RESPONSE_BODY, Judge, Outcome
from r1prov.responses.message import ResponseMessage, exchange_message, request_message
from r1prov.responses.report import State
from r1prov.text import plural, quoted

if TYPE_CHECKING:
    from r1prov.responses.exchange import Headers
    from r1prov.responses.keys import ResponseKey

SCHEME: Final = "http-signature"
# What says the same as another component, or more.
_INSTEAD: Final = {
    "@authority": ("@target-uri",),
    "@scheme": ("@target-uri",),
    "@path": ("@target-uri", "@request-target"),
    "@query": ("@target-uri", "@request-target"),
}

# Our proxy says which request content it had, also where the client sent no digest of it.
_REQUEST_DIGEST: Final = parse_component("r1prov-request-digest")


def check_http(judge: Judge) -> Outcome | None:
    """What the signatures of an answer come to; None if none is for this policy."""
    outcome = Outcome(SCHEME)
    try:
        signatures = read_signatures(judge.exchange.response.headers)
    except ResponseError as error:
        return outcome.refuse(error)
    tag = judge.policy.tag
    signatures = tuple(one for one in signatures if tag is None or one.input.tag == tag)
    if not signatures:
        return None
    chosen = _choose(judge, signatures, outcome)
    if chosen is None:
        return outcome.settled()
    signature, keys = chosen
    outcome.tag = signature.input.tag
    try:
        message = exchange_message(judge.exchange)
        key = _verifying(judge, signature, message, keys, outcome)
    except MissingPart as error:
        outcome.unchecked("signature", error.message)
        return outcome
    except ResponseError as error:
        return outcome.refuse(error)
    if key is None:
        return outcome.settled()
    outcome.checked(
        "signature", f"{key.algorithm}, {plural(len(signature.input.components), 'component')}"
    )
    outcome.covered = [str(one) for one in signature.input.components]
    judge.key_standing(key, outcome)
    if key.is_secret:
        outcome.state = State.INTEGRITY_ONLY
    judge.times(signature.input.created, signature.input.expires, outcome)
    judge.nonce(signature.input.nonce, outcome)
    _bodies(judge, signature.input, outcome)
    _coverage(judge, signature.input, outcome)
    check_header_binding(judge, signature.input, outcome)
    judge.replay(key, signature.input.nonce, signature.signature, outcome)
    return outcome.settled()


def _choose(
    judge: Judge, signatures: tuple[HttpSignature, ...], outcome: Outcome
) -> tuple[HttpSignature, list[ResponseKey]] | None:
    """The one signature that counts, by tag and key; a finding if it is not clear which."""
    found = []
    trials = []
    for one in signatures:
        trial = Outcome(SCHEME)
        keys = judge.keys_called(one.input.keyid, trial)
        trials.append(trial)
        if keys:
            found.append((one, keys))
    if len(found) == 1:
        return found[0]
    if not found:
        outcome.findings += trials[0].findings
        return None
    outcome.add(
        "response-signature-ambiguous",
        "Signature-Input",
        f"{plural(len(found), 'signature')} by keys that are trusted could be meant",
        expected="one" if judge.policy.tag is None else f"one with tag {quoted(judge.policy.tag)}",
        found=", ".join(quoted(one.input.label, limit=40) for one, _ in found[:4]),
        hint="give the policy a `tag`" if judge.policy.tag is None else None,
    )
    return None


def _verifying(
    judge: Judge,
    signature: HttpSignature,
    message: ResponseMessage,
    keys: list[ResponseKey],
    outcome: Outcome,
) -> ResponseKey | None:
    """The key that the signature is by; a finding if it is by none.

    Raises:
        ResponseError: The base cannot be built.
    """
    stated = signature.input.alg
    fitting = [key for key in keys if stated in (None, key.algorithm)]
    if not fitting:
        outcome.key = keys[0]
        outcome.add(
            "response-algorithm",
            "Signature-Input",
            f"the signature says it is {quoted(stated or '', limit=60)}",
            expected=keys[0].algorithm,
            found=quoted(stated or "", limit=60),
        )
        return None
    for key in fitting:
        if verify_signature(signature, message, key):
            return key
    outcome.key = fitting[0]
    if _is_for_another(judge, signature, message, fitting):
        outcome.add(
            "response-other-request",
            "Signature",
            "the signature is good for another request of this client, not for this one",
        )
        return None
    bound = any(one.has("req") for one in signature.input.components)
    outcome.add(
        "response-signature-invalid",
        "Signature",
        f"it does not verify under key {fitting[0].thumbprint or fitting[0].source}",
        hint="it also covers the request: the answer may be to another one" if bound else None,
    )
    return None


def _is_for_another(
    judge: Judge, signature: HttpSignature, message: ResponseMessage, keys: list[ResponseKey]
) -> bool:
    for other in judge.others:
        try:
            there = replace(message, request=request_message(other))
            if any(verify_signature(signature, there, key) for key in keys):
                return True
        except ResponseError:
            continue
    return False


# ---- what is covered ----------------------------------------------------------------------------


def _covers(signed: SignatureInput, wanted: Component) -> bool:
    if signed.covers(wanted):
        return True
    request = wanted.has("req")
    if wanted.name == "content-digest":
        return bool(_digest_components(signed, request=request)) or (
            request and signed.covers(_REQUEST_DIGEST)
        )
    return any(
        one.name in _INSTEAD.get(wanted.name, ()) and one.has("req") == request
        for one in signed.components
    )


def _digest_components(signed: SignatureInput, *, request: bool) -> list[Component]:
    """How a signature covers a Content-Digest: whole, written in another form, or one member."""
    return [
        one
        for one in signed.components
        if one.name == "content-digest"
        and one.has("req") == request
        and not one.has("tr")
        and one.text("key") in (None, *SIZES)
    ]


def _coverage(judge: Judge, signed: SignatureInput, outcome: Outcome) -> None:
    """Note what the policy wants and the signature leaves open."""
    open_ = [
        str(one)
        for one in judge.policy.cover
        if not _covers(signed, one) and not _is_moot(judge, one)
    ]
    if open_:
        sent = field_values(judge.exchange.request.headers, FIELD)
        asks = "content-digest;req" in open_ and not sent
        outcome.add(
            "response-uncovered",
            "Signature-Input",
            f"the signature is good and leaves open: {', '.join(open_)}",
            expected=" ".join(str(one) for one in judge.policy.cover),
            found=" ".join(outcome.covered) or "nothing",
            hint="a request is bound by the Content-Digest that the client sends with it"
            if asks
            else None,
        )
    else:
        outcome.checked("coverage", "all that the policy wants is signed")


def _is_moot(judge: Judge, wanted: Component) -> bool:
    """Whether nothing is there that could be covered: no such field, or a request without content.

    The digest of the answer is never moot, nor is a field that the policy names beyond the default:
    whoever is between could have taken it away. An answer may have no Content-Type.
    """
    if wanted.name.startswith("@"):
        return False
    request = judge.exchange.request
    if wanted.name == "content-digest":
        return (
            wanted.has("req") and request.body == b"" and not field_values(request.headers, FIELD)
        )
    if not wanted.has("req") and wanted.name != "content-type":
        return False
    headers = request.headers if wanted.has("req") else judge.exchange.response.headers
    side = "request" if wanted.has("req") else "response"
    return not field_values(headers, wanted.name) and not judge.exchange.is_redacted(
        f"{side}.header:{wanted.name}"
    )


def _bodies(judge: Judge, signed: SignatureInput, outcome: Outcome) -> None:
    """Compare the bodies with the digests that are signed, and the answer's in any case."""
    if _digest_components(signed, request=False):
        try:
            stated = _stated(judge.exchange.response.headers, signed, request=False)
        except ResponseError as error:
            outcome.refuse(error)
        else:
            _response_body(judge, stated, outcome)
    if _digest_components(signed, request=True):
        try:
            stated = _stated(judge.exchange.request.headers, signed, request=True)
        except ResponseError as error:
            outcome.refuse(error)
        else:
            _request_body(judge, stated, outcome, FIELD)
    if signed.covers(_REQUEST_DIGEST):
        values = field_values(judge.exchange.response.headers, _REQUEST_DIGEST.name)
        try:
            stated = parse_content_digest(values)
        except ResponseError as error:
            outcome.refuse(error)
        else:
            _request_body(judge, stated, outcome, _REQUEST_DIGEST.name)


def _stated(headers: Headers, signed: SignatureInput, *, request: bool) -> ContentDigest:
    """The digests of a field, of those members that are covered.

    Raises:
        ResponseError: The field is malformed, or has nothing that counts.
    """
    stated = read_content_digest(headers)
    if stated is None:  # the base could be built, so the field is there
        raise ResponseError(
            "response-digest-malformed", "there is no Content-Digest", subject=FIELD
        )
    keys = {one.text("key") for one in _digest_components(signed, request=request)}
    if None in keys:
        return stated
    return ContentDigest(tuple((name, value) for name, value in stated.known if name in keys))


def _response_body(judge: Judge, stated: ContentDigest, outcome: Outcome) -> None:
    digests = judge.response_digests(outcome)
    if digests is None:
        return
    differing = stated.differing(digests)
    if differing:
        name = differing[0]
        outcome.add(
            "response-body-mismatch",
            FIELD,
            f"the {name} digest of the answer's body is another than the signed one",
            expected=dict(stated.known)[name].hex(),
            found=digests[name].hex(),
            hint="bytes on the wire are meant, compressed if they were: see Accept-Encoding",
        )
    else:
        outcome.checked(RESPONSE_BODY, ", ".join(name for name, _ in stated.known))


def _request_body(judge: Judge, stated: ContentDigest, outcome: Outcome, field: str) -> None:
    digests = judge.request_digests(outcome)
    if digests is None:
        return
    differing = stated.differing(digests)
    if differing:
        name = differing[0]
        outcome.add(
            "response-other-request",
            f"{field} of the request",
            f"the answer is to a request whose {name} digest is another than this one's",
            expected=digests[name].hex(),
            found=dict(stated.known)[name].hex(),
        )
    else:
        names = ", ".join(name for name, _ in stated.known)
        outcome.checked(REQUEST_BODY, f"{names} of {field}")
