"""Rules 850 to 861: streamed answers that carry signed statements, and what a proxy stands for."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W = Severity.ERROR, Severity.WARNING
_ON_THE_WAY = "Somebody between signer and client did this. Use nothing of the answer; ask again."

STREAMS: tuple[Row, ...] = (
    (
        "850",
        "stream-statement-malformed",
        "What stands where a signed statement should is none",
        _E,
        "Only the signing proxy writes lines that begin with `: r1prov-signature`. Whoever passed "
        "the stream on changed it, or speaks another version of the format.",
    ),
    (
        "851",
        "stream-other-stream",
        "A statement is about another stream",
        _E,
        _ON_THE_WAY,
    ),
    (
        "852",
        "stream-repeated",
        "A statement stands in a stream twice",
        _E,
        _ON_THE_WAY,
    ),
    (
        "853",
        "stream-order",
        "A statement is missing, or they are in another order",
        _E,
        _ON_THE_WAY,
    ),
    (
        "854",
        "stream-head",
        "Status or content type are not those that were signed",
        _E,
        _ON_THE_WAY,
    ),
    (
        "855",
        "stream-bytes-removed",
        "Bytes of a streamed answer are missing",
        _E,
        _ON_THE_WAY,
    ),
    (
        "856",
        "stream-bytes-inserted",
        "A streamed answer has bytes that were not signed",
        _E,
        _ON_THE_WAY,
    ),
    (
        "857",
        "stream-bytes-altered",
        "Bytes of a streamed answer were changed or moved",
        _E,
        "Hash the bytes as they came over the wire, comments included, not what a client made of "
        "them. If you did, somebody between signer and client changed the answer.",
    ),
    (
        "858",
        "stream-after-end",
        "Something follows the last statement of a stream",
        _E,
        "Only the end that the last statement names may follow it.",
    ),
    (
        "859",
        "stream-cut",
        "The signer says that the answer broke off",
        _W,
        "The server behind the proxy failed, or was stopped in the middle. Ask again.",
    ),
    (
        "860",
        "response-manifest",
        "The signer stands for another manifest than the policy asks for",
        _E,
        "Another model answered than the one wanted, or the operator went over to a new release.",
    ),
    (
        "861",
        "response-weights-stated",
        "The signer did not verify the weights against the manifest it names",
        _E,
        "Ask the operator to start `r1prov response proxy` with `--model`.",
    ),
)
