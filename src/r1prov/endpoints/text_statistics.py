"""Statistics of texts that do not depend on how long or how many they are, with intervals.

No number here has a threshold of its own. Guides name such thresholds ("lexical diversity above
0.8"); they change with language, topic and length. What can be said is how far one set of answers
is from a recorded reference to the same prompts, and how sure that is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

# Covington and McFall (Journal of Quantitative Linguistics 17, 2010): any window will do, as long
# as it is the same on both sides and shorter than the texts.
WINDOW_WORDS = 50
REPEATED_NGRAM_WORDS = 4
# 95 of 100 such intervals hold the true difference.
CONFIDENCE = 0.95

# With fewer prompts an interval is for those prompts alone, and too narrow (measured in
# `benchmarks/text_intervals.py`: one of 99 % held 87 to 98 %).
MIN_PROMPTS = 3

_SENTENCE_END = re.compile(r"[.!?。！？…]+[\"'”’)）]*(?=\s|$)|[。！？…]+|\n+")
_CLAUSE_END = re.compile(r"[,;:，；：、—]+|[.!?。！？…]+|\n+")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003134f]")


def words(text: str) -> list[str]:
    """Words of a text, without case: Chinese by `jieba`, everything else by letters and digits."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not _HAN.search(folded):
        return re.findall(r"\w+(?:['’]\w+)*", folded)
    import jieba

    jieba.setLogLevel("ERROR")
    return [word for word in jieba.cut(folded) if any(map(str.isalnum, word))]


def lexical_diversity(text: str) -> float | None:
    """Moving-average type-token ratio: distinct words in a window, averaged over all windows.

    None for a text shorter than a window: a ratio over fewer words is not comparable.
    """
    tokens = words(text)
    if len(tokens) < WINDOW_WORDS:
        return None
    counts: dict[str, int] = {}
    distinct = 0
    for at, token in enumerate(tokens):
        counts[token] = counts.get(token, 0) + 1
        if at >= WINDOW_WORDS:
            gone = tokens[at - WINDOW_WORDS]
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
        if at >= WINDOW_WORDS - 1:
            distinct += len(counts)
    return distinct / (len(tokens) - WINDOW_WORDS + 1) / WINDOW_WORDS


def repetition(text: str) -> float | None:
    """Share of word 4-grams that stood in the window before already; None for a short text.

    The window keeps the share from growing with the length of the text.
    """
    tokens = words(text)
    grams = list(zip(*(tokens[i:] for i in range(REPEATED_NGRAM_WORDS)), strict=False))
    if len(tokens) < WINDOW_WORDS:
        return None
    last: dict[tuple[str, ...], int] = {}
    repeated = 0
    for at, gram in enumerate(grams):
        repeated += gram in last and at - last[gram] <= WINDOW_WORDS
        last[gram] = at
    return repeated / len(grams)


def sentence_words(text: str) -> float | None:
    """Mean number of words a sentence; None where there is no word."""
    return _mean_words(text, _SENTENCE_END)


def clause_words(text: str) -> float | None:
    """Mean number of words between punctuation marks; None where there is no word."""
    return _mean_words(text, _CLAUSE_END)


def _mean_words(text: str, end: re.Pattern[str]) -> float | None:
    counts = [count for part in end.split(text) if (count := len(words(part)))]
    return sum(counts) / len(counts) if counts else None


STATISTICS: Mapping[str, Callable[[str], float | None]] = {
    "lexical diversity": lexical_diversity,
    "repetition": repetition,
    "words a sentence": sentence_words,
    "words a clause": clause_words,
    "characters": lambda text: float(len(text)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDifference:
    """One statistic on both sides.

    Attributes:
        statistic: Its name in `STATISTICS`.
        reference: Mean over the prompts' means on the side of the reference.
        other: The same on the other side.
        difference: `other` minus `reference`.
        low: Lower end of its interval.
        high: Upper end.
        confidence: Of the interval, for all statistics of one comparison together.
        p_value: By permutation within prompts: how likely so large a difference of means is.
        distance: Mean over prompts of Wasserstein's distance between both sides' values.
        prompts: Prompts that were used.
        texts: Texts on both sides that have the statistic.
    """

    statistic: str
    reference: float
    other: float
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    distance: float
    prompts: int
    texts: tuple[int, int]


def compare_texts(
    reference: Mapping[str, Sequence[str]],
    other: Mapping[str, Sequence[str]],
    *,
    resamples: int = 4_999,
    seed: int,
) -> tuple[TextDifference, ...]:
    """Every statistic on both sides, over the prompts that both answered.

    Intervals are a bootstrap over prompts and over answers within each; they are widened so that
    all of them hold together (Bonferroni). A statistic that no prompt has on both sides is left
    out.

    Raises:
        UsageError: No statistic can be compared.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    found: list[TextDifference] = []
    for name, statistic in STATISTICS.items():
        pairs = []
        for prompt in sorted(reference.keys() & other.keys()):
            sides = [
                np.array([value for text in texts if (value := statistic(text)) is not None])
                for texts in (reference[prompt], other[prompt])
            ]
            if all(side.size for side in sides):
                pairs.append(sides)
        if pairs:
            found.append(difference_of(name, pairs, resamples, random))
    if not found:
        raise UsageError("no prompt was answered with text on both sides")
    return tuple(found)


def difference_of(
    name: str, pairs: list[list[np.ndarray]], resamples: int, random: np.random.Generator
) -> TextDifference:
    """One statistic of both sides.

    Args:
        name: Of the statistic.
        pairs: A prompt's values on the side of the reference and on the other, of shape (answers,).
        resamples: Of the bootstrap, and of the permutations.
        random: Where chance comes from.
    """
    import numpy as np

    means = np.array([[side.mean() for side in pair] for pair in pairs])
    reference, other = means.mean(axis=0)
    confidence = 1 - (1 - CONFIDENCE) / len(STATISTICS)
    permuted = np.zeros(resamples)
    which = random.integers(len(pairs), size=(resamples, len(pairs)))
    gaps = np.empty((resamples, len(pairs)))
    for column, (left, right) in enumerate(pairs):
        gaps[:, column] = _resampled(right, resamples, random) - _resampled(left, resamples, random)
        together = np.concatenate([left, right])
        order = random.random((resamples, together.size)).argsort(axis=1)
        shuffled = together[order]
        permuted += shuffled[:, left.size :].mean(axis=1) - shuffled[:, : left.size].mean(axis=1)
    drawn = np.take_along_axis(gaps, which, axis=1).mean(axis=1)
    permuted /= len(pairs)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    difference = float(other - reference)
    reached = int(np.count_nonzero(np.abs(permuted) >= abs(difference) - 1e-12))
    return TextDifference(
        statistic=name,
        reference=float(reference),
        other=float(other),
        difference=difference,
        low=float(low),
        high=float(high),
        confidence=confidence,
        p_value=(1 + reached) / (1 + resamples),
        distance=float(np.mean([_wasserstein(left, right) for left, right in pairs])),
        prompts=len(pairs),
        texts=(sum(pair[0].size for pair in pairs), sum(pair[1].size for pair in pairs)),
    )


def _resampled(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    drawn = random.integers(values.size, size=(count, values.size))
    means: np.ndarray = values[drawn].mean(axis=1)
    return means


def _wasserstein(left: np.ndarray, right: np.ndarray) -> float:
    """Area between the two distribution functions (Vallender 1974)."""
    import numpy as np

    points = np.sort(np.concatenate([left, right]))
    steps = np.diff(points)
    at = points[:-1]
    one = np.searchsorted(np.sort(left), at, side="right") / left.size
    two = np.searchsorted(np.sort(right), at, side="right") / right.size
    return float(np.sum(np.abs(one - two) * steps))
