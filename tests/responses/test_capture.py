import hashlib

from hypothesis import given
from hypothesis import strategies as st

from r1prov.responses.capture import BodyCapture, EndHolder

PIECES = st.lists(
    st.sampled_from(
        [
            b"data: [DONE]",
            b"data:[DONE]",
            b"data: ",
            b"[DONE]",
            b"\n",
            b"\r\n",
            b"\r",
            b"x",
            b": ",
            b"d",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(PIECES, st.lists(st.integers(1, 9), max_size=30))
def test_nothing_is_lost_or_moved_and_the_end_is_held(data, sizes):
    """What is handed on before the end is the same however the bytes arrive."""
    import re

    holder, passed, rest = EndHolder(), b"", data
    for size in [*sizes, len(data) or 1]:
        piece, rest = rest[:size], rest[size:]
        passed += holder.feed(piece)
    assert passed + holder.held == data
    found = re.search(rb"(?:^|[\r\n])(data: ?\[DONE\])", data)
    assert holder.ended == (found is not None)
    if found:
        assert passed == data[: found.start(1)]
    else:
        assert len(holder.held) < len(b"data: [DONE]")


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 60))
def test_a_body_is_kept_up_to_the_cap_and_always_hashed(pieces, keep):
    capture, body = BodyCapture(keep), b"".join(pieces)
    for one in pieces:
        capture.feed(one)
    if len(body) <= keep:
        assert (capture.body, capture.digests) == (body, None)
    else:
        assert capture.body is None
        digests = capture.digests
        assert (digests.length, digests.sha256) == (len(body), hashlib.sha256(body).digest())
        assert digests.sha512 == hashlib.sha512(body).digest()
