"""How long an endpoint takes, as a description.

Times depend on load, distance and batching as much as on the model: they can show that something
changed or that two kinds of answers are mixed, and prove nothing about which model answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from r1prov.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Below this the dip test has next to no power, and its silence would be read as an answer.
MIN_MODALITY_SAMPLES = 20
# Below this p-value a description says that there is more than one peak.
MODALITY_LEVEL = 0.01
# The clock's tick: pieces that came out of one read of the network are no time apart.
_TICK = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """Whether times have one peak or more (Hartigan and Hartigan, Annals of Statistics 13, 1985).

    Attributes:
        samples: How many times.
        dip: The dip statistic: distance to the closest distribution with one peak.
        p_value: How likely a dip so large is with one flat peak; small means more than one.
    """

    samples: int
    dip: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """One kind of times.

    Attributes:
        samples: How many.
        quantiles: Share to seconds.
        mean: Seconds.
        together: Times of nothing: pieces that the network handed over with the one before.
        modality: Of the times that are more than nothing; None where there are fewer than
            `MIN_MODALITY_SAMPLES`.
    """

    samples: int
    quantiles: Mapping[float, float]
    mean: float
    together: int
    modality: Modality | None


def describe_times(seconds: Sequence[float]) -> Times:
    """Quantiles and modality of some times.

    Modality is judged on logarithms: times are skewed, and a long tail is no second peak. Pieces
    that came together would be a peak of their own, of the network's making, and are left out.

    Args:
        seconds: Each positive or zero.

    Raises:
        UsageError: There are none, or one is negative or not a number.
    """
    import numpy as np

    values = np.asarray(seconds, dtype=float)
    if not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise UsageError("these are no times", hint="seconds, zero or more, at least one")
    apart = values[values >= _TICK]
    return Times(
        samples=values.size,
        quantiles={share: float(np.quantile(values, share)) for share in QUANTILES},
        mean=float(values.mean()),
        together=values.size - apart.size,
        modality=_modality(apart) if apart.size >= MIN_MODALITY_SAMPLES else None,
    )


def _modality(values: np.ndarray) -> Modality:
    import numpy as np
    from diptest import diptest

    dip, p_value = diptest(np.log(_between_ticks(values)))
    return Modality(samples=values.size, dip=float(dip), p_value=float(p_value))


def _between_ticks(values: np.ndarray) -> np.ndarray:
    """The values, each anywhere within its tick of a clock that is coarse.

    The dip test takes values that are the same for a peak each. Where most are not alone, the
    smallest step between two is the tick.
    """
    import numpy as np

    steps = np.round(values / _TICK)
    distinct = np.unique(steps)
    if distinct.size < 2 or distinct.size > values.size / 2:
        return values
    tick = np.diff(distinct).min() * _TICK
    # The same values have the same answer.
    within = np.random.default_rng(0).uniform(-0.5, 0.5, values.size)
    return np.asarray(np.maximum(values + tick * within, _TICK / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimes:
    """Times of one streamed answer, in seconds from the sending of the request.

    Attributes:
        reasoning: When each piece of reasoning came.
        answer: When each piece of the answer came.
        end: When the stream ended.
    """

    reasoning: tuple[float, ...]
    answer: tuple[float, ...]
    end: float


def phases(streams: Sequence[StreamTimes]) -> dict[str, list[float]]:
    """Times of many streams by what they measure; kinds that no stream has are left out.

    Keys: `first piece` (of either phase), `reasoning` and `answer` (how long each phase lasted),
    `between reasoning pieces`, `between answer pieces`, `total`.
    """
    found: dict[str, list[float]] = {
        "first piece": [],
        "reasoning": [],
        "between reasoning pieces": [],
        "answer": [],
        "between answer pieces": [],
        "total": [],
    }
    for one in streams:
        if pieces := (*one.reasoning, *one.answer):
            found["first piece"].append(min(pieces))
        for name, times in (("reasoning", one.reasoning), ("answer", one.answer)):
            if times:
                found[name].append(times[-1] - times[0])
            gaps = [later - sooner for sooner, later in pairwise(times)]
            found[f"between {name} pieces"] += gaps
        found["total"].append(one.end)
    return {name: values for name, values in found.items() if values}
