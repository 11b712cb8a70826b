"""Rules of streamed answers that carry signed statements, 850 to 871."""

from __future__ import annotations

from r1prov.verify.rule import Row, Severity

_E, _W = Severity.ERROR, Severity.WARNING

STREAMS: tuple[Row, ...] = (
    (
        "850",
        "stream-statement-malformed",
        "Something that stands where a signed statement should is none",
        _E,
        "Only the signing proxy writes lines that begin with `: r1prov-signature`. Whoever passed "
        "the stream on changed it, or speaks another version of the format.",
    ),
    (
        "851",
        "stream-key-unknown",
        "A stream is signed with a key that is not trusted for it",
        _E,
        "A key is trusted because the policy pins it, never because a server offers it. After a "
        "rotation, get the new key from the operator by another way and pin it too.",
    ),
    (
        "852",
        "stream-algorithm",
        "A statement names another algorithm than its key's",
        _E,
        "The algorithm follows from the key: a message that asks for another was tampered with.",
    ),
    (
        "853",
        "stream-signature",
        "The signature of a statement does not fit",
        _E,
        "Use nothing of this answer: the statement was changed, or signed by somebody else.",
    ),
    (
        "854",
        "stream-other-stream",
        "A statement is about another stream",
        _E,
        "Statements of one answer were put into another one.",
    ),
    (
        "855",
        "stream-repeated",
        "A statement stands in a stream twice",
        _E,
        "A part of the answer was sent again by somebody on the way.",
    ),
    (
        "856",
        "stream-order",
        "A statement is missing, or they are in another order",
        _E,
        "A part of the answer was taken out or moved by somebody on the way.",
    ),
    (
        "857",
        "stream-other-request",
        "The answer is to another request",
        _E,
        "Method, authority, path, query and content that were signed are not those that were sent. "
        "A gateway that rewrites requests must stand behind the signing proxy, not before it.",
    ),
    (
        "858",
        "stream-nonce",
        "The answer does not repeat the client's nonce",
        _E,
        "Without the nonce an older answer to the same request cannot be told from a new one.",
    ),
    (
        "859",
        "stream-other-head",
        "Status or content type are not those that were signed",
        _E,
        "Somebody on the way changed the head of the answer.",
    ),
    (
        "860",
        "stream-other-manifest",
        "The proxy stands for another manifest than the policy asks for",
        _E,
        "Another model answered than the one wanted, or the operator went over to a new release.",
    ),
    (
        "861",
        "stream-weights-stated",
        "The weights were not verified when the proxy started",
        _E,
        "Ask the operator to start `r1prov response proxy` with `--model`.",
    ),
    (
        "862",
        "stream-replayed",
        "This answer was accepted before",
        _E,
        "Somebody on the way kept an answer and sent it again.",
    ),
    (
        "863",
        "stream-time",
        "A statement was not signed just now",
        _E,
        "Check the clocks of both machines; an answer that is too old may be a replay.",
    ),
    (
        "864",
        "stream-bytes-removed",
        "Bytes of a streamed answer are missing",
        _E,
        "A part of the answer was taken out by somebody on the way.",
    ),
    (
        "865",
        "stream-bytes-inserted",
        "A streamed answer has bytes that were not signed",
        _E,
        "Something was put into the answer, or a part of it repeated, by somebody on the way.",
    ),
    (
        "866",
        "stream-bytes-altered",
        "Bytes of a streamed answer were changed or moved",
        _E,
        "Hash the bytes as they came over the wire, comments included, not what a client made of "
        "them. If you did, somebody on the way changed the answer.",
    ),
    (
        "867",
        "stream-after-end",
        "Something follows the last statement of a stream",
        _E,
        "Only the end that the last statement names may follow it.",
    ),
    (
        "868",
        "stream-incomplete",
        "A stream ends without its last statement",
        _W,
        "It was cut off: a connection broke, or somebody withholds the end. What statements "
        "account for can be used as a part; the answer as a whole cannot.",
    ),
    (
        "869",
        "stream-cut",
        "The signer says that the answer broke off",
        _W,
        "The server behind the proxy failed or was stopped in the middle. Ask again.",
    ),
    (
        "870",
        "stream-unsigned",
        "A streamed answer offers no signature",
        _W,
        "Nothing is known of it. If this server signed before, that is a downgrade.",
    ),
    (
        "871",
        "stream-receipt-unavailable",
        "The receipt of a streamed answer cannot be had",
        _W,
        "Receipts are kept for minutes; fetch them at once. Nothing is known of the answer.",
    ),
)
