"""Recording what a trusted endpoint answers, for others to be held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import r1prov
from r1prov.endpoints.border import recorded_border
from r1prov.endpoints.client import Client
from r1prov.endpoints.plan import Asked
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.question_run import question_request, score_replies
from r1prov.endpoints.reference import (
    EndpointReference,
    QuestionResults,
    RecordedPrompt,
    Sampling,
    VerifiedWeights,
)
from r1prov.endpoints.sampling import Samples, collect, collect_first_tokens
from r1prov.errors import Unreadable, VerificationFailed
from r1prov.responses.redaction import redact_url
from r1prov.verify.findings import Verdict

if TYPE_CHECKING:
    from r1prov.verify.findings import Report

# Fewer of one prompt say nothing of how answers spread.
_LEAST = 2


def record(
    client: Client,
    prompts: Sequence[Prompt],
    *,
    model: str,
    sampling: Sampling,
    samples: int,
    logprob_samples: int,
    seed: int,
    with_border: bool = True,
    asked: Asked | None = None,
    weights: VerifiedWeights | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> EndpointReference:
    """Ask an endpoint and make a reference of what it answers.

    Args:
        client: Who is asked.
        prompts: What.
        model: Name of the model, as manifests have it.
        sampling: With which parameters.
        samples: Completions a prompt.
        logprob_samples: Answers with log-probabilities a prompt, if they are to be had.
        seed: Of the order.
        with_border: Whether to look for border inputs, where log-probabilities are to be had.
        asked: A test set; None for none.
        weights: What the endpoint serves.
        say: Told what is being done.

    Raises:
        Unreadable: Not everything was answered: the log keeps what was.
    """
    found = Samples()
    border: tuple[RecordedPrompt, ...] = ()
    if sampling.top_logprobs:
        say("log-probabilities")
        if not collect_first_tokens(
            [client], [found], prompts, logprob_samples, sampling, seed=seed
        ):
            say("note: the endpoint gives no log-probabilities; none are recorded")
        elif with_border:
            say("border inputs")
            border = recorded_border(client, prompts, sampling, seed=seed)
            if not border:
                say("note: too few prompts are near a tie; no border inputs are recorded")
    say(f"{samples} completions of each of {len(prompts):,} prompts")
    collect([client], [found], prompts, range(samples), sampling, seed=seed)
    short = [one.id for one in prompts if len(found.completions.get(one.id, ())) < _LEAST]
    _check(client, short)
    questions = None
    if asked is not None:
        say(f"{len(asked.questions):,} questions")
        replies = client.ask_all(
            [question_request(one, asked.max_tokens) for one in asked.questions]
        )
        scored = score_replies(asked.questions, replies)
        _check(client, [one.id for one in asked.questions if one.id not in scored.right])
        questions = QuestionResults(
            sha256=asked.sha256, max_tokens=asked.max_tokens, right=scored.right
        )
    return EndpointReference(
        model=model,
        endpoint=redact_url(client.url)[0],
        asked_model=client.model,
        recorded_at=datetime.now(UTC).replace(microsecond=0),
        version=r1prov.__version__,
        sampling=sampling,
        prompts=tuple(
            RecordedPrompt(
                id=one.id,
                text=one.text,
                completions=tuple(found.completions[one.id]),
                first_tokens=tuple(found.first_tokens.get(one.id, ())),
            )
            for one in prompts
        ),
        weights=weights,
        questions=questions,
        border=border,
    )


def weights_of(report: Report) -> VerifiedWeights:
    """What a report says of the weights, to stand in a reference.

    Raises:
        VerificationFailed: It is no pass.
    """
    use = report.manifest
    if report.verdict is not Verdict.PASS or use is None or use.tree_digest is None:
        raise VerificationFailed(
            f"the weights did not pass: {report.headline}",
            report=report,
            subject=report.model,
            hint="a reference is bound only to weights that `r1prov verify` passes in full",
        )
    return VerifiedWeights(
        manifest=use.name, manifest_sha256=use.sha256, tree_digest=use.tree_digest
    )


def _check(client: Client, missing: Sequence[str]) -> None:
    """A reference with holes is none."""
    if client.stopped is None and not missing:
        return
    why = client.stopped or f"{missing[0]} and {len(missing) - 1:,} more were not answered"
    raise Unreadable(
        f"the reference is not complete: {why}",
        subject=redact_url(client.url)[0],
        hint="what was answered is in the log: go on with --resume",
    )
