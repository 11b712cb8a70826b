"""Where the deltas of a stream end, held against where tokens of the same text end."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from r1prov.endpoints.answer import Answer, Part
from r1prov.endpoints.tokens.tokenizer import TextTokenizer

# Boundaries of one answer below which nothing is said about how it was cut.
_MIN_BOUNDARIES = 20
# Deltas of one length: characters per chunk, as relays cut. Tokens of one character each are not
# the whole text in any language, so one in thirty may differ.
_SAME_LENGTH = 0.9
# What a server puts for a token that ends within a character: no boundary of the text that it made.
_REPLACED = "\N{REPLACEMENT CHARACTER}"
# Off-token boundaries outside of numbers. The most that another tokenizer of the table has is 0.29
# (Llama 3 in Chinese). Text that is cut anywhere has 0.77 in English and 0.38 or more in Chinese,
# where tokens are a character or two.
_ANYWHERE = 0.35


@dataclass(frozen=True, slots=True)
class Cuts:
    """The boundaries between the deltas of one answer.

    Attributes:
        trials: Whether each boundary is inside a token. Of boundaries inside one token the first
            alone counts, so that trials depend less on each other.
        inner: Boundaries with a letter or digit on both sides: where tokenizers differ.
        boundaries: All of them.
        off: Of these, inside a token.
        rechunked: Why deltas are no tokens; None if they may be.
    """

    trials: tuple[bool, ...]
    inner: int
    boundaries: int
    off: int
    rechunked: str | None


def cuts_of(answer: Answer, tokenizer: TextTokenizer) -> Cuts | None:
    """Compare one streamed answer; None where the tokens do not make up its text.

    Raises:
        LimitExceeded: The text is longer than `MAX_RECOUNT_BYTES`.
    """
    trials: list[bool] = []
    boundaries = inner = off = outside = off_outside = 0
    lengths: list[int] = []
    for part in Part:
        deltas = answer.deltas_of(part)
        text = "".join(deltas)
        ends = tokenizer.ends(text)
        if ends is None:
            return None
        valid = frozenset(ends)
        lengths += [len(one) for one in deltas[:-1] if not _single(one)]
        places = accumulate(len(one.encode()) for one in deltas)
        was_off = False
        for before, after, place in zip(deltas, deltas[1:], places, strict=False):
            left, right = before[-1], after[0]
            if _REPLACED in (left, right):
                was_off = False
                continue
            is_off = place not in valid
            number = left.isdigit() and right.isdigit()
            boundaries += 1
            inner += left.isalnum() and right.isalnum()
            off += is_off
            outside += not number
            off_outside += is_off and not number
            if not (is_off and was_off):
                trials.append(is_off)
            was_off = is_off
    return Cuts(
        tuple(trials),
        inner,
        boundaries,
        off,
        _why_rechunked(lengths, boundaries, inner, outside, off_outside),
    )


def _single(delta: str) -> bool:
    """Whether it is a digit or a space: a token of its own in many tokenizers."""
    return len(delta) == 1 and (delta.isdigit() or delta.isspace())


def _why_rechunked(
    lengths: Sequence[int], boundaries: int, inner: int, outside: int, off: int
) -> str | None:
    if boundaries < _MIN_BOUNDARIES:
        return "the text came in a few pieces"
    length, most = Tally(lengths).most_common(1)[0] if lengths else (0, 0)
    if len(lengths) >= _MIN_BOUNDARIES and most >= _SAME_LENGTH * len(lengths):
        return (
            f"every piece has {length} characters" if length > 1 else "every piece is a character"
        )
    if inner == 0:
        return "every piece ends between words"
    if outside >= _MIN_BOUNDARIES and off > _ANYWHERE * outside:
        return "pieces end anywhere"
    return None
