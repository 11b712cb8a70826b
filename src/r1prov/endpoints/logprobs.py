"""Do two endpoints give the same log-probabilities? The sharpest test, where they are offered.

One prompt, one output token, many times (log-probability tracking, arXiv 2512.03816): the same
weights give the same numbers up to the noise of batching, and any other weights do not. Requests
are exchangeable within a prompt, so labels are permuted within each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import UsageError

if TYPE_CHECKING:
    import numpy as np


# Prompt to answers; an answer maps each listed token to its log-probability.
LogprobSamples = Mapping[str, Sequence[Mapping[str, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobResult:
    """Outcome of one test.

    Attributes:
        difference: Mean over prompts and tokens of the absolute difference of mean
            log-probabilities.
        noise: The same within each side, of two halves of its answers: what batching does.
        p_value: By permutation; never 0.
        permutations: How many were drawn.
        prompts: Prompts that were used.
        reference: Answers of the reference that were used.
        other: Answers of the other side that were used.
    """

    difference: float
    noise: float
    p_value: float
    permutations: int
    prompts: int
    reference: int
    other: int


def compare_logprobs(
    reference: LogprobSamples, other: LogprobSamples, *, permutations: int = 9_999, seed: int
) -> LogprobResult:
    """Test whether log-probabilities of the same first token come from the same weights.

    Swapping the sides changes nothing, so k prompts with two answers on each side have 3^k distinct
    labellings: 7 prompts are the least that can reach a p-value of 0.001.

    Raises:
        UsageError: No prompt has two answers on both sides, or a number is not finite.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    reference, other = (
        {name: [one for one in answers if one] for name, answers in side.items()}
        for side in (reference, other)
    )
    names = sorted(
        name for name in reference if len(reference[name]) >= 2 and len(other.get(name, ())) >= 2
    )
    if not names:
        raise UsageError(
            "no prompt has log-probabilities twice on both sides",
            hint="one answer a side cannot tell a difference from noise",
        )
    observed, sizes = 0.0, [0, 0]
    noises: list[float] = []
    drawn = np.zeros(permutations)
    for name in names:
        table = _table([*reference[name], *other[name]])
        if not np.isfinite(table).all():
            raise UsageError(f"a log-probability of prompt {name!r} is not a number")
        m, size = len(reference[name]), len(table)
        sizes[0] += m
        sizes[1] += size - m

        def gap(labels: np.ndarray, table: np.ndarray = table, m: int = m) -> np.ndarray:
            left = labels @ table / m
            right = (1 - labels) @ table / (len(table) - m)
            return np.asarray(np.abs(left - right).mean(axis=1))

        observed += float(gap(np.array([[1.0] * m + [0.0] * (size - m)]))[0])
        labels = np.zeros((permutations, size))
        chosen = random.random((permutations, size)).argsort(axis=1)[:, :m]
        np.put_along_axis(labels, chosen, 1.0, axis=1)
        drawn += gap(labels)
        noises += [_noise(table[:m]), _noise(table[m:])]
    count = len(names)
    reached = int(np.count_nonzero(drawn >= observed - 1e-12))
    return LogprobResult(
        difference=observed / count,
        noise=sum(noises) / len(noises),
        p_value=(1 + reached) / (1 + permutations),
        permutations=permutations,
        prompts=count,
        reference=sizes[0],
        other=sizes[1],
    )


def _table(answers: Sequence[Mapping[str, float]]) -> np.ndarray:
    """A row an answer, a column a token that any of them lists.

    Hosts list as many tokens as they please, so of each answer as many are taken as of the
    shortest. One that is not among them is taken for the last that is: it is at most that likely,
    and the end of a list, where tokens change places by chance, makes no difference of its own.
    """
    import numpy as np

    count = min(map(len, answers))
    lists = [dict(sorted(one.items(), key=_likelier)[:count]) for one in answers]
    tokens = sorted(set().union(*lists))
    table = np.zeros((len(lists), len(tokens)))
    for row, one in enumerate(lists):
        last = min(one.values(), default=0.0)
        table[row] = [one.get(token, last) for token in tokens]
    return table


def _likelier(item: tuple[str, float]) -> tuple[float, str]:
    return -item[1], item[0]


def _noise(part: np.ndarray) -> float:
    half = len(part) // 2
    return float(abs(part[:half].mean(axis=0) - part[half:].mean(axis=0)).mean())
