"""Two endpoints, asked the same in random turns: do they answer alike?

A is the side that is trusted, B the one in question. Every test has both sides; the verdict is
about B answering as A does, whatever either of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import r1prov
from r1prov.endpoints.benign import judged_questions, lenient
from r1prov.endpoints.border import BORDER, ask_border, border_result, find_border, gap_of
from r1prov.endpoints.client import Client
from r1prov.endpoints.comparison import (
    COMPLETIONS,
    LOGPROBS,
    Names,
    completions_result,
    logprobs_result,
    text_result,
    times_of,
    timing_result,
)
from r1prov.endpoints.equality import chosen_kernel
from r1prov.endpoints.faults import answer_findings
from r1prov.endpoints.plan import Plan
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.question_run import (
    QUESTIONS,
    Scored,
    question_request,
    score_replies,
)
from r1prov.endpoints.reference import Sampling
from r1prov.endpoints.report import EndpointReport, NotRun, Plots, Side, compose, overall_alpha
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.sampling import Samples, ask_by_turns, collect, collect_first_tokens
from r1prov.endpoints.sequential import plan_looks
from r1prov.endpoints.structure import structure_tests
from r1prov.endpoints.token_audit import TokenAudit
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.responses.redaction import redact_url
from r1prov.verify.findings import Finding, finding

_NAMES = Names(reference="A", other="B")
_ROLES = ("A", "B")
_DECIDED = "the verdict is certain without it; --all runs it all the same"
# Completions a prompt, where the user does not say.
SAMPLES = 10


@dataclass(slots=True)
class Comparison:
    """A comparison under way.

    Attributes:
        a: The trusted side.
        b: The side in question.
        plan: What is done; its claim is held against both sides, and described.
        prompts: What both are asked.
        sampling: With which parameters.
        tokenizer: Of the claimed model; None if none is at hand.
        say: Told what is being done.
    """

    a: Client
    b: Client
    plan: Plan
    prompts: Sequence[Prompt]
    sampling: Sampling
    tokenizer: TextTokenizer | None = None
    say: Callable[[str], None] = lambda _: None
    results: list[TestResult] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)

    def run(self) -> EndpointReport:
        """Do it.

        Raises:
            UsageError: The plan cannot be carried out.
            Unreadable: The log cannot be written.
        """
        started = datetime.now(UTC)
        chosen_kernel(self.plan.kernel, self.tokenizer)
        if self.plan.claim is not None:
            self._tokens(self.plan.claim)
        alpha = self.plan.alpha / (2 + (self.plan.asked is not None))
        self._logprobs(alpha)
        self._completions(alpha)
        self._questions(alpha)
        return self._report(started)

    @property
    def _clients(self) -> tuple[Client, Client]:
        return self.a, self.b

    @property
    def _stopped(self) -> str | None:
        return next(
            (f"{role}: {one.stopped}" for role, one in zip(_ROLES, self._clients, strict=True)
             if one.stopped is not None),
            None,
        )  # fmt: skip

    def _left_out(self, *names: str) -> bool:
        why = self._stopped
        if why is None and not self.plan.run_all and any(one.decisive for one in self.results):
            why = _DECIDED
        if why is not None:
            self.not_run += [NotRun(name, why) for name in names]
        return why is not None

    def _tokens(self, claim: str) -> None:
        """Both sides against the claim: what differs between them is told as a result."""
        verdicts = []
        for role, client in zip(_ROLES, self._clients, strict=True):
            self.say(f"questions and token probes, {role}")
            tokens = TokenAudit(client, claim, self.tokenizer)
            tokens.ask_half(self.plan.questions())
            found = [*structure_tests(tokens.streams, claim=claim), *tokens.results()]
            verdicts.append(found[-1])
            self.findings += answer_findings(tokens.streams, subject=role)
            # What either side is does not decide whether they are alike.
            self.results += [
                replace(
                    one,
                    name=f"{one.name} of {role}",
                    decisive=False,
                    outcome=Outcome.NOT_TESTABLE
                    if one.outcome is Outcome.NOT_TESTABLE
                    else Outcome.DESCRIPTION,
                )
                for one in found
            ]
            times = times_of(tokens.streams, [one.seconds for one in tokens.replies])
            self.results.append(timing_result(times, answers=len(tokens.streams), side=role))
            self.times |= {f"{kind}, {role}": sorted(v) for kind, v in times.items()}
        self.results.append(tokenizers_result(verdicts[0], verdicts[1], claim))

    def _logprobs(self, alpha: float) -> None:
        if not self.sampling.top_logprobs:
            self.not_run.append(NotRun(LOGPROBS, "not asked for: --top-logprobs 0"))
            return
        if self._left_out(LOGPROBS):
            return
        self.say("log-probabilities")
        sides = [Samples(), Samples()]
        had = collect_first_tokens(
            self._clients,
            sides,
            self.prompts,
            self.plan.logprob_samples,
            self.sampling,
            seed=self.plan.seed,
        )
        if not had:
            self.not_run.append(NotRun(LOGPROBS, "not both endpoints give log-probabilities"))
            self._border(alpha)
            return
        self.results.append(
            logprobs_result(
                sides[0].first_tokens,
                sides[1].first_tokens,
                alpha=alpha,
                seed=self.plan.seed,
                names=_NAMES,
                requests=sides[0].requests + sides[1].requests,
                tokens=sides[0].tokens + sides[1].tokens,
            )
        )

    def _border(self, alpha: float) -> None:
        """First tokens near a tie, in the place of log-probabilities and with their error rate."""
        if self._left_out(BORDER):
            return
        self.say("border inputs")
        chosen, listed = find_border(self.a, self.prompts, self.sampling, seed=self.plan.seed)
        if not chosen:
            self.not_run.append(NotRun(BORDER, "too few prompts of A are known to be near a tie"))
            return
        ours, theirs = ask_border(self._clients, chosen, seed=self.plan.seed)
        self.results.append(
            border_result(
                ours.completions,
                theirs,
                {one.id: gap_of(listed.first_tokens[one.id]) or 0.0 for one in chosen},
                alpha=alpha,
                seed=self.plan.seed,
                names=_NAMES,
                other_requests=ours.requests + listed.requests,
            )
        )

    def _completions(self, alpha: float) -> None:
        if self._left_out(COMPLETIONS, "text-statistics"):
            return
        total = self.plan.samples or SAMPLES
        self.say(f"{total} completions of each of {len(self.prompts):,} prompts, both sides")
        sides = [Samples(), Samples()]
        looks = plan_looks(alpha, min(self.plan.looks, total))
        done = 0
        for number, look in enumerate(looks, 1):
            upto = max(done + 1, round(total * look.samples))
            collect(
                self._clients,
                sides,
                self.prompts,
                range(done, upto),
                self.sampling,
                seed=self.plan.seed,
            )
            done = upto
            result, rejects = completions_result(
                sides[0].texts(),
                sides[1],
                looks[:number],
                kernel=self.plan.kernel,
                tokenizer=self.tokenizer,
                seed=self.plan.seed,
                names=_NAMES,
                other_requests=sides[0].requests,
            )
            if rejects or self._stopped is not None:
                break
        self.results.append(result)
        self.results.append(
            text_result(sides[0].texts(), sides[1].texts(), seed=self.plan.seed, names=_NAMES)
        )
        for role, side in zip(_ROLES, sides, strict=True):
            seconds = [
                one.seconds
                for found in side.completions.values()
                for one in found
                if one.seconds is not None
            ]
            if seconds:
                self.times[f"completion, {role}"] = sorted(seconds)

    def _questions(self, alpha: float) -> None:
        asked = self.plan.asked
        if asked is None or self._left_out(QUESTIONS):
            return
        self.say(f"{len(asked.questions):,} questions, both sides")
        requests = [question_request(one, asked.max_tokens) for one in asked.questions]
        pairs = ask_by_turns(self._clients, requests, seed=self.plan.seed)
        scored: list[Scored] = [score_replies(asked.questions, side) for side in pairs]
        self.results.append(
            judged_questions(
                scored[1],
                lenient(scored[1], asked.questions, pairs[1]),
                scored[0].right,
                alpha=alpha,
                tolerated=asked.tolerated,
                names=_NAMES,
                requests=sum(map(len, pairs)),
            )
        )

    def _report(self, started: datetime) -> EndpointReport:
        verdict, headline = compose(
            self.results, "the two endpoints answering alike", stopped=self._stopped
        )
        findings = list(self.findings)
        if self._stopped is not None:
            findings.append(finding("audit-stopped", "comparison", self._stopped))
        return EndpointReport(
            kind="compare",
            claim=self.plan.claim or "B answers as A does",
            verdict=verdict,
            headline=headline,
            sides=(
                *(
                    Side(role=role, name=redact_url(one.url)[0], model=one.model)
                    for role, one in zip(_ROLES, self._clients, strict=True)
                ),
                *((self.plan.asked.side(),) if self.plan.asked is not None else ()),
            ),
            results=tuple(self.results),
            not_run=tuple(self.not_run),
            alpha=overall_alpha(self.results),
            # One budget for both: what is paid for is the comparison.
            requests=self.a.budget.requests,
            tokens=self.a.budget.tokens,
            replayed=self.a.replayed + self.b.replayed,
            seed=self.plan.seed,
            log=self.a.log_name,
            log_head=self.a.log_head,
            started_at=started,
            finished_at=datetime.now(UTC),
            version=r1prov.__version__,
            findings=tuple(findings),
            plots=Plots(times=self.times),
        )


def tokenizers_result(a: TestResult, b: TestResult, claim: str) -> TestResult:
    """Whether both sides stand alike to the tokenizer of the claim.

    Decisive is only one side contradicted beyond doubt and the other borne out.
    """
    outcomes = {a.outcome, b.outcome}
    differ = outcomes == {Outcome.CONSISTENT, Outcome.INCONSISTENT}
    decisive = differ and (a.decisive or b.decisive)
    if differ:
        other, bad = ("B", b) if b.outcome is Outcome.INCONSISTENT else ("A", a)
        summary = (
            f"the tokenizer of {claim} is at work on one side and not on {other}: {bad.summary}"
        )
        outcome = Outcome.INCONSISTENT
    elif outcomes == {Outcome.CONSISTENT}:
        summary = f"both sides have the tokenizer of {claim}"
        outcome = Outcome.CONSISTENT
    else:
        summary = f"the tokenizer of {claim} does not tell the sides apart"
        outcome = Outcome.NOT_TESTABLE
    return TestResult(
        name="tokenizer",
        outcome=outcome,
        summary=summary,
        decisive=decisive,
        samples=a.samples + b.samples,
        requests=a.requests + b.requests,
        tokens=a.tokens + b.tokens,
        error_rates=a.error_rates if b.error_rates is None else b.error_rates,
        statistics=_numbered({"A": a, "B": b}),
        findings=b.findings or a.findings if differ else (),
        benign=a.benign,
        cannot_tell=a.cannot_tell,
    )


def _numbered(sides: Mapping[str, TestResult]) -> dict[str, float]:
    return {
        f"{name}_{role}": value
        for role, one in sides.items()
        for name, value in one.statistics.items()
    }
