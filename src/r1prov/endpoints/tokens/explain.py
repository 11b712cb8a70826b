"""What explains the token counts of one round of probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.tokens.fit import TOLERANCE, Fit, exact_fit, rounding_of, scaled_fit
from r1prov.endpoints.tokens.reference import Counter, TokenReference

# Fewer different probes leave a fit with a scale nothing to contradict it.
SCALE_PROBES = 5
# Rounding by more than this blurs families into each other.
_MAX_ROUNDING = 25


@dataclass(frozen=True, slots=True)
class Observation:
    """What an endpoint counted for one probe.

    Attributes:
        probe: Id of the probe.
        tokens: `usage.prompt_tokens`, or cache hits plus misses; None if it did not count.
        round: 0 for the first time, 1 for the repeat that confirms, and so on.
        spent: Prompt and completion tokens of the request.
    """

    probe: str
    tokens: int | None
    round: int = 0
    spent: int = 0


def observe(probe: str, answer: Answer, *, round: int = 0) -> Observation:  # noqa: A002
    """The observation that an answer to a probe makes.

    One without a count stands for good: whoever asks repeats what failed for the moment first.
    """
    usage = answer.usage
    if usage is None:
        return Observation(probe, None, round)
    tokens = usage.prompt_tokens
    if (
        tokens is None
        and usage.cache_hit_tokens is not None
        and usage.cache_miss_tokens is not None
    ):
        tokens = usage.cache_hit_tokens + usage.cache_miss_tokens
    return Observation(probe, tokens, round, (tokens or 0) + (usage.completion_tokens or 0))


class Kind(StrEnum):
    """What kind of explanation was found."""

    CLAIMED = "claimed"  # the claimed tokenizer, every token
    CLAIMED_SCALED = "claimed-scaled"  # the claimed tokenizer times a factor
    OTHER = "other-tokenizer"
    OTHER_SCALED = "other-tokenizer-scaled"
    ESTIMATE = "estimate"  # a measure of the text, or a tokenizer of no such model
    CONSTANT = "constant"
    MISSING = "missing"
    UNEXPLAINED = "unexplained"
    TOO_FEW = "too-few"  # nothing can be said before more probes are in


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the counts are what they are.

    Attributes:
        kind: The kind.
        fit: The counter that fits, with offset and scale; None for kinds without one.
        claimed: The claimed tokenizer held against the counts, at scale 1.
        margin: Smallest residual of any other counter fitted the same way.
        rounding: Step that the counts are rounded to; 1 for none.
    """

    kind: Kind
    fit: Fit | None = None
    claimed: Fit | None = None
    margin: float | None = None
    rounding: int = 1


def explain(
    seen: Mapping[str, int], missing: int, claimed: Counter, reference: TokenReference
) -> Explanation:
    """Explain one round.

    Args:
        seen: Id of a family probe to its count.
        missing: Probes that came back without a count.
        claimed: Family of the claimed model.
        reference: The table.
    """
    if len(seen) < 2:
        return Explanation(Kind.MISSING if missing else Kind.TOO_FEW)
    if len(seen) < 3:
        return Explanation(Kind.TOO_FEW)
    values = list(seen.values())
    if max(values) - min(values) <= TOLERANCE:
        return Explanation(Kind.CONSTANT)
    rounding = rounding_of(seen)
    own = exact_fit(claimed, seen, rounding=min(rounding, _MAX_ROUNDING))
    others = [one for one in reference.counters if one is not claimed]
    if own.holds:
        margin = min(exact_fit(one, seen).residual for one in others)
        # Probes that were refused may be those that would have told two families apart.
        kind = Kind.CLAIMED if margin > own.tolerance else Kind.TOO_FEW
        return Explanation(kind, own, own, margin, rounding)
    if len(seen) < SCALE_PROBES:
        return Explanation(Kind.TOO_FEW, None, own)
    if rounding > _MAX_ROUNDING:
        return Explanation(Kind.UNEXPLAINED, None, own, None, rounding)
    exact = _holding(exact_fit(one, seen, rounding=rounding) for one in others)
    if exact:
        return _of(exact, Kind.OTHER, own, rounding)
    scaled = _holding(scaled_fit(one, seen, rounding=rounding) for one in reference.counters)
    if scaled:
        kind = Kind.CLAIMED_SCALED if scaled[0].counter is claimed else Kind.OTHER_SCALED
        return _of(scaled, kind, own, rounding)
    return Explanation(Kind.UNEXPLAINED, None, own, None, rounding)


def _holding(fits: Iterable[Fit | None]) -> list[Fit]:
    return sorted((one for one in fits if one and one.holds), key=lambda one: one.residual)


def _of(fits: list[Fit], kind: Kind, own: Fit, rounding: int) -> Explanation:
    best = fits[0]
    if len(fits) > 1:  # two explanations are none, until another probe tells them apart
        return Explanation(Kind.TOO_FEW, None, own, fits[1].residual, rounding)
    if not best.counter.tokenizer:
        kind = Kind.ESTIMATE
    return Explanation(kind, best, own, None, rounding)
