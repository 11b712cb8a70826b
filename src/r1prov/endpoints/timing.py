"""How long an endpoint takes, as a description.

Times depend on load, distance and batching as much as on the model: they can show that something
changed or that two kinds of answers are mixed, and prove nothing about which model answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from r1prov.errors import UsageError

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Below this the dip test has next to no power, and its silence would be read as an answer.
MIN_MODALITY_SAMPLES = 20


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
        modality: None where there are fewer than `MIN_MODALITY_SAMPLES`.
    """

    samples: int
    quantiles: Mapping[float, float]
    mean: float
    modality: Modality | None


def describe_times(seconds: Sequence[float]) -> Times:
    """Quantiles and modality of some times.

    Modality is judged on logarithms: times are skewed, and a long tail is no second peak.

    Args:
        seconds: Each positive or zero.

    Raises:
        UsageError: There are none, or one is negative or not a number.
    """
    import numpy as np

    values = np.asarray(seconds, dtype=float)
    if not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise UsageError("these are no times", hint="seconds, zero or more, at least one")
    return Times(
        samples=values.size,
        quantiles={share: float(np.quantile(values, share)) for share in QUANTILES},
        mean=float(values.mean()),
        modality=_modality(values) if values.size >= MIN_MODALITY_SAMPLES else None,
    )


def _modality(values: object) -> Modality:
    import numpy as np
    from diptest import diptest

    # A clock's tick, so that zero has a logarithm.
    logs = np.log(np.asarray(values, dtype=float) + 1e-6)
    dip, p_value = diptest(logs)
    return Modality(samples=logs.size, dip=float(dip), p_value=float(p_value))


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
