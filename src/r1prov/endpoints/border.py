"""Border inputs: prompts at which the trusted model hardly prefers one first token to another.

At temperature 0 such a prompt answers with one token or the other, and weights that are a little
different tip some of them over (B3IT, arXiv 2602.11083): a token of text shows what otherwise only
log-probabilities do. They are found with the log-probabilities of the trusted side, once; the side
in question needs to give none.

The nearest ties are left out. Kernels, hardware and batching move log-probabilities of the same
weights too, up to `LOGPROB_TOLERANCE` each, and would tip over a prompt whose gap is less than
twice that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from r1prov.endpoints.chat import ChatRequest
from r1prov.endpoints.client import Client
from r1prov.endpoints.comparison import LOGPROB_TOLERANCE, Names, smallest_p_value, untestable
from r1prov.endpoints.equality import compare_completions
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.reference import Completion, RecordedPrompt, Sampling
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.endpoints.sampling import (
    Samples,
    collect,
    collect_first_tokens,
    completion_request,
    first_token_request,
)
from r1prov.errors import UsageError
from r1prov.verify.findings import finding

BORDER = "border-inputs"
# Prompts, and answers of each a side. Fewer answers of a side cannot tell a token that always
# comes from one that came by chance.
PROMPTS, ANSWERS = 16, 3
# Fewer prompts than this are no test: one or two may tip over for a cause of their own.
LEAST_PROMPTS = 6
# Between the two likeliest first tokens. 4-bit weights of a small model moved log-probabilities by
# 0.7 on average, 8-bit weights by 0.1.
GAP = (2 * LOGPROB_TOLERANCE, 0.25)
# As nothing is drawn at temperature 0, one token is all that is asked for.
SAMPLING = Sampling(max_tokens=1, temperature=0.0)
# Words and short clauses, in any script.
_FRAGMENT = re.compile(r"\w+")
# A prompt file may be long; so many candidates are enough.
MAX_CANDIDATES = 400


def candidates(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """What may be a border input: every word or clause of the prompts, as a prompt of its own.

    Those of ASCII come first: the first one tells whether log-probabilities are to be had, and
    servers give none for a token that is a part of a character.
    """
    found = dict.fromkeys(text for one in prompts for text in _FRAGMENT.findall(one.text))
    texts = sorted(found, key=lambda text: not text.isascii())[:MAX_CANDIDATES]
    return tuple(Prompt(f"border-{text}", text) for text in texts)


def recorded_requests(border: Sequence[RecordedPrompt]) -> list[ChatRequest]:
    """The requests that put recorded border inputs to another endpoint."""
    return [completion_request(one.text, SAMPLING) for one in border for _ in range(ANSWERS)]


def border_requests(prompts: Sequence[Prompt]) -> list[ChatRequest]:
    """What it takes to find border inputs among the prompts and to ask them, for an estimate."""
    asked = candidates(prompts)
    find = [first_token_request(one.text, SAMPLING) for one in asked]
    return find + [completion_request(one.text, SAMPLING) for one in asked[:PROMPTS]] * ANSWERS


def gap_of(answers: Sequence[Mapping[str, float]]) -> float | None:
    """How far the second likeliest token is behind the first, in logarithms; None if unknown."""
    listed = [sorted(one.values(), reverse=True)[:2] for one in answers if len(one) > 1]
    return sum(first - second for first, second in listed) / len(listed) if listed else None


def nearest(first_tokens: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Names of the prompts whose gap is in `GAP`, the smallest first, `PROMPTS` at most."""
    gaps = {name: gap_of(answers) for name, answers in first_tokens.items()}
    inside = [(gap, name) for name, gap in gaps.items() if gap is not None and in_gap(gap)]
    return [name for _, name in sorted(inside)[:PROMPTS]]


def in_gap(gap: float) -> bool:
    """Whether so near a tie is one that only other weights tip over."""
    return GAP[0] <= gap <= GAP[1]


def find_border(
    client: Client, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int
) -> tuple[list[Prompt], Samples]:
    """Border inputs of a trusted endpoint, by its log-probabilities.

    Args:
        client: Who is asked, once for each candidate.
        prompts: What candidates are made of.
        sampling: With which log-probabilities are asked for.
        seed: Of the order.

    Returns:
        The prompts, none if there are fewer than `LEAST_PROMPTS`, and what was answered.
    """
    asked = candidates(prompts)
    found = Samples()
    if not collect_first_tokens([client], [found], asked, 1, sampling, seed=seed):
        return [], found
    chosen = nearest(found.first_tokens)
    by_name = {one.id: one for one in asked}
    return [by_name[name] for name in chosen] if len(chosen) >= LEAST_PROMPTS else [], found


def ask_border(clients: Sequence[Client], prompts: Sequence[Prompt], *, seed: int) -> list[Samples]:
    """First tokens of border inputs from each side."""
    sides = [Samples() for _ in clients]
    collect(clients, sides, prompts, range(ANSWERS), SAMPLING, seed=seed)
    return sides


def recorded_border(
    client: Client, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int
) -> tuple[RecordedPrompt, ...]:
    """What a reference keeps of border inputs; nothing where there are none."""
    chosen, listed = find_border(client, prompts, sampling, seed=seed)
    if not chosen:
        return ()
    (side,) = ask_border([client], chosen, seed=seed)
    return tuple(
        RecordedPrompt(
            id=one.id,
            text=one.text,
            completions=tuple(side.completions[one.id]),
            first_tokens=tuple(listed.first_tokens[one.id]),
        )
        for one in chosen
        if len(side.completions.get(one.id, ())) >= 2
    )


def border_result(
    reference: Mapping[str, Sequence[Completion]],
    samples: Samples,
    gaps: Mapping[str, float],
    *,
    alpha: float,
    seed: int,
    names: Names,
    other_requests: int = 0,
) -> TestResult:
    """Whether border inputs are answered with the same first tokens.

    Args:
        reference: Prompt to first tokens of the trusted side.
        samples: Of the other side.
        gaps: Of the trusted side, prompt by prompt.
        alpha: Error rate.
        seed: Of the permutations.
        names: Of the sides.
        other_requests: Requests to the trusted side, if it is an endpoint too.
    """
    requests = samples.requests + other_requests
    ours = {name: [one.text for one in found] for name, found in reference.items()}
    theirs = samples.texts()
    try:
        found = compare_completions(ours, theirs, kernel="exact", seed=seed)
    except UsageError as error:
        return untestable(BORDER, error.message, requests)
    count = len(found.prompts)
    if count < LEAST_PROMPTS or smallest_p_value(found) > alpha:
        return untestable(BORDER, f"{count} border inputs are too few to tell", requests)
    tipped = [
        one.prompt for one in found.prompts if not set(ours[one.prompt]) & set(theirs[one.prompt])
    ]
    differs = found.p_value <= alpha
    summary = (
        f"{len(tipped)} of {count} border inputs have another first token than {names.reference} "
        f"(p = {found.p_value:.2g}, {found.other:,} against {found.reference:,} answers)"
    )
    findings = (
        finding(
            "border-inputs-differ",
            names.other,
            summary,
            expected=f"p above {alpha:.2g}",
            found=f"p = {found.p_value:.2g}",
        ),
    )
    used = [gaps[one.prompt] for one in found.prompts if one.prompt in gaps]
    return TestResult(
        name=BORDER,
        outcome=Outcome.INCONSISTENT if differs else Outcome.CONSISTENT,
        summary=summary,
        decisive=differs,
        samples=found.other,
        requests=requests,
        tokens=samples.tokens,
        error_rates=ErrorRates(
            alpha=alpha,
            beta=None,
            basis=(
                "permutation within prompts, exact where both sides answer alike; kernels and "
                f"batching that move log-probabilities by less than {LOGPROB_TOLERANCE} tip over "
                "none. Power: docs/endpoint-error-rates.md"
            ),
        ),
        statistics={
            "p_value": found.p_value,
            "prompts": float(count),
            "other_first_token": float(len(tipped)),
            "gap_smallest": min(used, default=0.0),
            "gap_largest": max(used, default=0.0),
            "reference_answers": float(found.reference),
        },
        findings=findings if differs else (),
        benign=(
            "a hidden system prompt or another chat template",
            "a host that sets the temperature itself",
            "quantized weights that the operator tells of",
        ),
        cannot_tell=(
            "why the sides differ",
            "weights so near that no border input tips over",
        ),
    )
