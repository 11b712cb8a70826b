"""Where the deltas of a stream end, held against where tokens of the same text end."""

from __future__ import annotations

import math
import re
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from r1prov.endpoints.answer import Answer, Part
from r1prov.endpoints.tokens.tokenizer import TextTokenizer

# Boundaries of one answer below which nothing is said about how it was cut.
_MIN_BOUNDARIES = 20
# Deltas of one length: characters per chunk, as relays cut. Tokens of one character each are not
# the whole text in any language, so one in thirty may differ.
_SAME_LENGTH = 0.9
# What a server puts for a token that ends within a character: no boundary of the text that it made.
_REPLACED = "\N{REPLACEMENT CHARACTER}"
# Boundaries within a character. Tokens of the table end so at 2.5 % of the places in ordinary text
# at most, pieces of so many bytes at two thirds of those in Chinese.
_BROKEN = 0.05
# A number that no tokenizer of the table has a token for; cutting between words never cuts it.
_LONG_NUMBER = re.compile(r"\d{4,}", re.ASCII)
_MIN_NUMBERS = 10
# Standard deviations by which boundaries must be inside tokens more seldom than boundaries that
# stand anywhere: 1 in 2,000 of those would be.
_DEVIATIONS = 3.3
# One answer whose boundaries are inside tokens nearly as often as those that stand anywhere. The
# nearest that a tokenizer of the table comes is 0.77 (Llama 3 in Chinese).
_ANYWHERE = 0.88


@dataclass(frozen=True, slots=True)
class Cuts:
    """The boundaries between the deltas of one answer.

    Attributes:
        trials: Whether each boundary is inside a token. Of boundaries inside one token the first
            alone counts, so that trials depend less on each other.
        inner: Boundaries with a letter or digit on both sides: where tokenizers differ.
        boundaries: All of them.
        off: Of these, inside a token.
        outside: Boundaries that are not between two digits.
        off_outside: Of these, inside a token.
        anywhere: How many of these would be, if they stood anywhere in this text.
        numbers: Numbers of four digits or more.
        cut_numbers: Boundaries between two digits of them, or of any number.
        rechunked: Why deltas are no tokens; None if they may be.
    """

    trials: tuple[bool, ...]
    inner: int
    boundaries: int
    off: int
    outside: int
    off_outside: int
    anywhere: float
    numbers: int
    cut_numbers: int
    rechunked: str | None


def cuts_of(answer: Answer, tokenizer: TextTokenizer) -> Cuts | None:
    """Compare one streamed answer; None where the tokens do not make up its text.

    Raises:
        LimitExceeded: The text is longer than `MAX_RECOUNT_BYTES`.
    """
    trials: list[bool] = []
    boundaries = broken = inner = off = outside = off_outside = numbers = cut_numbers = 0
    anywhere = 0.0
    lengths: list[int] = []
    for part in Part:
        deltas = answer.deltas_of(part)
        text = "".join(deltas)
        ends = tokenizer.ends(text)
        if ends is None:
            return None
        valid = frozenset(ends)
        lengths += [len(one) for one in deltas[:-1] if not _single(one)]
        numbers += len(_LONG_NUMBER.findall(text))
        places = accumulate(len(one.encode()) for one in deltas)
        was_off = False
        before_this = outside
        for before, after, place in zip(deltas, deltas[1:], places, strict=False):
            left, right = before[-1], after[0]
            if _REPLACED in (left, right):
                broken += 1
                was_off = False
                continue
            is_off = place not in valid
            number = left.isdigit() and right.isdigit()
            boundaries += 1
            inner += left.isalnum() and right.isalnum()
            off += is_off
            outside += not number
            cut_numbers += number
            off_outside += is_off and not number
            if not (is_off and was_off):
                trials.append(is_off)
            was_off = is_off
        anywhere += (outside - before_this) * _inside(text, valid)
    return Cuts(
        tuple(trials),
        inner,
        boundaries,
        off,
        outside,
        off_outside,
        anywhere,
        numbers,
        cut_numbers,
        _why_rechunked(lengths, boundaries, inner, broken),
    )


def judged(found: Sequence[Cuts]) -> list[Cuts]:
    """Cuts of the answers of one endpoint, where all of them together tell how they were cut.

    Pieces that end anywhere, and words that another program found, are seen only in many answers:
    in Chinese both end inside tokens hardly more often than tokens of another model do.
    """
    left = [one for one in found if one.rechunked is None]
    why = None
    outside, off = sum(one.outside for one in left), sum(one.off_outside for one in left)
    expected = sum(one.anywhere for one in left)
    if outside and off:
        share = min(1.0, expected / outside)
        deviation = math.sqrt(outside * share * (1 - share))
        if off > expected - _DEVIATIONS * deviation:
            why = "pieces end anywhere"
    if why is None and any(one.off for one in left):
        numbers = sum(one.numbers for one in left)
        if numbers >= _MIN_NUMBERS and not any(one.cut_numbers for one in left):
            why = "words and numbers are never cut"
    return [
        one
        if one.rechunked is not None
        else replace(one, rechunked=why or ("pieces end anywhere" if _anywhere(one) else None))
        for one in found
    ]


def _anywhere(one: Cuts) -> bool:
    return one.outside >= _MIN_BOUNDARIES and one.off_outside > _ANYWHERE * one.anywhere


def _inside(text: str, ends: frozenset[int]) -> float:
    """Share of the places between two characters, but two digits, that are inside a token."""
    places = inside = at = 0
    for before, after in pairwise(text):
        at += len(before.encode(errors="replace"))
        if not (before.isdigit() and after.isdigit()):
            places += 1
            inside += at not in ends
    return inside / places if places else 0.0


def _single(delta: str) -> bool:
    """Whether it is a digit or a space: a token of its own in many tokenizers."""
    return len(delta) == 1 and (delta.isdigit() or delta.isspace())


def _why_rechunked(lengths: Sequence[int], boundaries: int, inner: int, broken: int) -> str | None:
    """What one answer says of itself."""
    if boundaries + broken >= _MIN_BOUNDARIES and broken > _BROKEN * (boundaries + broken):
        return "pieces end within characters"
    if boundaries < _MIN_BOUNDARIES:
        return "the text came in a few pieces"
    length, most = Tally(lengths).most_common(1)[0] if lengths else (0, 0)
    if len(lengths) >= _MIN_BOUNDARIES and most >= _SAME_LENGTH * len(lengths):
        return (
            f"every piece has {length} characters" if length > 1 else "every piece is a character"
        )
    if inner == 0:
        return "every piece ends between words"
    return None
