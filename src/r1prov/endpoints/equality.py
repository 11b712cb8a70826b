"""Do two endpoints answer alike? A two-sample test on completions of the same prompts.

Model Equality Testing (Gao, Liang and Guestrin, arXiv 2410.20247): maximum mean discrepancy with a
kernel on strings, and a p-value by permutation. Completions are exchangeable between the two sides
only within a prompt, so labels are permuted within each prompt; with that the p-value is exact
(Phipson and Smyth, arXiv 1603.05766), whatever the kernel and the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r1prov.endpoints.tokens.tokenizer import TextTokenizer

    Matrix = NDArray[np.float64]

# Prompt to completions of it.
Samples = Mapping[str, Sequence[str]]
# Completions to the matrix of their similarities, each from 0 to 1.
Kernel = Callable[[Sequence[str]], "Matrix"]

# The paper compares the first 50 tokens; the characters are about as much text.
PREFIX_TOKENS, PREFIX_CHARACTERS = 50, 200
TOKENS = "tokens"
_NGRAM = 3
# Permutations at a time: bounds memory, whatever the number of samples.
_BATCH = 256


def hamming_kernel(texts: Sequence[str]) -> Matrix:
    """Share of the first `PREFIX_CHARACTERS` positions at which two texts have the same character.

    Two ends of text at the same position agree: a text that stopped is like another that stopped.
    """
    return _same_places([[ord(one) for one in text] for text in texts], PREFIX_CHARACTERS)


def token_kernel(tokenizer: TextTokenizer) -> Kernel:
    """The same on the first `PREFIX_TOKENS` tokens, as the paper has it.

    The texts are cut with one tokenizer on both sides, whichever tokens they were made of: any
    kernel is valid, and this one is blind to how a host cuts.
    """
    return lambda texts: _same_places([tokenizer.ids(text) for text in texts], PREFIX_TOKENS)


def _same_places(rows: Sequence[Sequence[int]], length: int) -> Matrix:
    import numpy as np

    codes = np.zeros((len(rows), length), dtype=np.int32)
    for number, row in enumerate(rows):
        points = [one + 1 for one in row[:length]]
        codes[number, : len(points)] = points
    same = np.empty((len(rows), len(rows)))
    for number in range(len(rows)):
        same[number] = (codes == codes[number]).mean(axis=1)
    return same


def ngram_kernel(texts: Sequence[str]) -> Matrix:
    """Cosine similarity of the counts of character 3-grams (a spectrum kernel).

    Blind to where in a text something stands, so a shift by one character costs nothing.
    """
    import numpy as np

    counts: list[dict[str, int]] = []
    for text in texts:
        grams: dict[str, int] = {}
        padded = f"\x02{text[: 4 * PREFIX_CHARACTERS]}\x03"
        for at in range(max(1, len(padded) - _NGRAM + 1)):
            gram = padded[at : at + _NGRAM]
            grams[gram] = grams.get(gram, 0) + 1
        counts.append(grams)
    index = {gram: i for i, gram in enumerate(sorted(set().union(*counts)))}
    table = np.zeros((len(texts), len(index)))
    for row, grams in enumerate(counts):
        for gram, count in grams.items():
            table[row, index[gram]] = count
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table @ table.T)


def exact_kernel(texts: Sequence[str]) -> Matrix:
    """1 for two texts that are the same, else 0: for texts of one token."""
    import numpy as np

    return np.array([[float(one == other) for other in texts] for one in texts])


KERNELS: Mapping[str, Kernel] = {
    "hamming": hamming_kernel, "ngram": ngram_kernel, "exact": exact_kernel,
}  # fmt: skip


def chosen_kernel(name: str, tokenizer: TextTokenizer | None) -> Kernel:
    """The kernel of that name.

    Raises:
        UsageError: There is none, or it needs a tokenizer and none is at hand.
    """
    if name in KERNELS:
        return KERNELS[name]
    if name != TOKENS:
        known = ", ".join([*KERNELS, TOKENS])
        raise UsageError(f"there is no kernel {name!r}", hint=f"one of {known}")
    if tokenizer is None:
        raise UsageError(
            "a kernel on tokens needs a tokenizer",
            hint="--claim MODEL with its --tokenizer FILE, or --kernel hamming",
        )
    return token_kernel(tokenizer)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDifference:
    """What one prompt adds to the statistic.

    Attributes:
        prompt: Its id.
        reference: Completions on the side of the reference.
        other: Completions on the other side.
        mmd2: Unbiased squared discrepancy of the two; about 0 where they answer alike.
    """

    prompt: str
    reference: int
    other: int
    mmd2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityResult:
    """Outcome of one test.

    Attributes:
        kernel: Name of the kernel.
        statistic: Mean over prompts of the unbiased squared discrepancy.
        p_value: Exact for the permutations drawn; never 0.
        permutations: How many were drawn.
        reference: Completions of the reference that were used.
        other: Completions of the other side that were used.
        prompts: What each prompt adds, the most different first.
        left_out: Prompts without two completions on both sides.
    """

    kernel: str
    statistic: float
    p_value: float
    permutations: int
    reference: int
    other: int
    prompts: tuple[PromptDifference, ...]
    left_out: tuple[str, ...]


class _Prompt:
    """Similarities of the completions of one prompt, and its statistic under any labelling."""

    def __init__(self, kernel: Kernel, reference: Sequence[str], other: Sequence[str]) -> None:
        import numpy as np

        self.m, self.n = len(reference), len(other)
        similar = kernel([*reference, *other])
        np.fill_diagonal(similar, 0.0)
        self.similar = similar
        self.rows = similar.sum(axis=1)
        self.total = float(self.rows.sum())

    def mmd2(self, labels: Matrix) -> Matrix:
        """Unbiased squared discrepancy (Gretton et al. 2012, equation 3) of each labelling.

        Args:
            labels: One row a labelling: 1 for the reference's side, 0 for the other.
        """
        inside = ((labels @ self.similar) * labels).sum(axis=1)
        across = labels @ self.rows - inside
        outside = self.total - inside - 2 * across
        mmd2: Matrix = inside / (self.m * (self.m - 1)) + outside / (self.n * (self.n - 1))
        mmd2 -= 2 * across / (self.m * self.n)
        return mmd2

    def observed(self) -> float:
        import numpy as np

        return float(self.mmd2(np.array([[1.0] * self.m + [0.0] * self.n]))[0])

    def permuted(self, count: int, random: np.random.Generator) -> Matrix:
        import numpy as np

        size = self.m + self.n
        labels = np.zeros((count, size))
        chosen = random.random((count, size)).argpartition(self.m - 1, axis=1)[:, : self.m]
        np.put_along_axis(labels, chosen, 1.0, axis=1)
        return self.mmd2(labels)


def compare_completions(
    reference: Samples,
    other: Samples,
    *,
    kernel: str = "hamming",
    tokenizer: TextTokenizer | None = None,
    permutations: int = 9_999,
    seed: int,
) -> EqualityResult:
    """Test whether completions of the same prompts come from one distribution.

    Both sides must have been asked with the same prompts, sampling parameters and `max_tokens`, and
    each completion in a request of its own.

    Args:
        reference: Completions of the side that is trusted.
        other: Completions of the side that is audited.
        kernel: A name in `KERNELS`, or `TOKENS`; chosen before the data are seen.
        tokenizer: That cuts the texts of both sides, for the kernel on tokens.
        permutations: How many labellings to draw; the smallest p-value is 1 / (1 + permutations).
        seed: Of the drawing, so that the result can be computed again.

    Raises:
        UsageError: No prompt has two completions on both sides, there is no such kernel, or it
            needs a tokenizer.
        LimitExceeded: A text is longer than `MAX_RECOUNT_BYTES`, and tokens were asked for.
    """
    import numpy as np

    alike = chosen_kernel(kernel, tokenizer)
    names = [
        name
        for name in sorted(reference.keys() | other.keys())
        if len(reference.get(name, ())) >= 2 and len(other.get(name, ())) >= 2
    ]
    if not names:
        raise UsageError(
            "no prompt has two completions on both sides",
            hint="ask both endpoints the same prompts, each at least twice",
        )
    random = np.random.default_rng(seed)
    drawn = np.zeros(permutations)
    parts = []
    for name in names:
        prompt = _Prompt(alike, reference[name], other[name])
        parts.append(
            PromptDifference(
                prompt=name, reference=prompt.m, other=prompt.n, mmd2=prompt.observed()
            )
        )
        for start in range(0, permutations, _BATCH):
            stop = min(start + _BATCH, permutations)
            drawn[start:stop] += prompt.permuted(stop - start, random)
    statistic = sum(part.mmd2 for part in parts) / len(parts)
    # Labellings that give the very same statistic count as reaching it, whatever the rounding.
    reached = int(np.count_nonzero(drawn / len(parts) >= statistic - 1e-12))
    return EqualityResult(
        kernel=kernel,
        statistic=statistic,
        p_value=(1 + reached) / (1 + permutations),
        permutations=permutations,
        reference=sum(part.reference for part in parts),
        other=sum(part.other for part in parts),
        prompts=tuple(sorted(parts, key=lambda part: -part.mmd2)),
        left_out=tuple(sorted((reference.keys() | other.keys()) - set(names))),
    )
