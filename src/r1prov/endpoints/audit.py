"""An audit of one endpoint: the cheapest tests first, one verdict at the end.

Order: questions and token probes of the first half, of the second half, parameters, context; then,
if asked for, the comparison with a reference and the test set. Once a decisive result is there the
rest is left out, unless the plan says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import r1prov
from r1prov.endpoints.answer import Answer
from r1prov.endpoints.benign import (
    answers_repeated,
    hidden_prompt,
    judged_questions,
    lenient,
    temperature_ignored,
    undecided,
)
from r1prov.endpoints.border import BORDER, ask_border, border_result, gap_of
from r1prov.endpoints.chat import ChatRequest
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
    question_request,
    score_replies,
)
from r1prov.endpoints.reference_trust import UsedReference
from r1prov.endpoints.report import (
    EndpointReport,
    NotRun,
    Plots,
    Side,
    compose,
    overall_alpha,
)
from r1prov.endpoints.result import TestResult
from r1prov.endpoints.sampling import Samples, collect, collect_first_tokens
from r1prov.endpoints.sequential import plan_looks
from r1prov.endpoints.service import PARAMETER_PROBES, context_test, parameter_test
from r1prov.endpoints.structure import structure_tests
from r1prov.endpoints.token_audit import TokenAudit
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.errors import UsageError
from r1prov.responses.redaction import redact_url
from r1prov.text import plural, quoted
from r1prov.verify.findings import Finding, finding

_DECIDED = "the verdict is certain without it; --all runs it all the same"
Say = Callable[[str], None]


@dataclass(slots=True)
class Audit:
    """An audit under way.

    Attributes:
        client: Who is asked.
        plan: What is done.
        tokenizer: Of the claimed model; None if none is at hand.
        reference: What the endpoint is held against; None for nothing.
        say: Told what is being done.
    """

    client: Client
    plan: Plan
    tokenizer: TextTokenizer | None = None
    reference: UsedReference | None = None
    say: Say = lambda _: None
    results: list[TestResult] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    plots: Plots = field(default_factory=Plots)

    def run(self) -> EndpointReport:
        """Do it.

        Raises:
            UsageError: The plan does not fit the endpoint or the reference.
            Unreadable: The log cannot be written.
        """
        started = datetime.now(UTC)
        self._check()
        if self.plan.claim is not None:
            self._tokens(self.plan.claim)
        if self.reference is not None:
            self._against(self.reference)
        if self.plan.asked is not None:
            self._questions()
        return self._report(started)

    def _check(self) -> None:
        """Whether the reference goes with the plan, before anything is spent.

        Raises:
            UsageError: It does not.
        """
        self._baseline()
        if self.reference is None:
            return
        chosen_kernel(self.plan.kernel, self.tokenizer)
        if self.plan.claim is None:
            return
        model = self.reference.reference.model
        if model.lower() != self.plan.claim.lower():
            raise UsageError(
                f"the reference is of {quoted(model)}, and the claim is {quoted(self.plan.claim)}",
                hint="name the same model with --claim, or another reference",
            )

    def _certain(self, *names: str) -> bool:
        """Whether tests are left out, and then says so."""
        why = self.client.stopped
        if why is None and not self.plan.run_all and any(one.decisive for one in self.results):
            why = _DECIDED
        if why is not None:
            self.not_run += [NotRun(name, why) for name in names]
        return why is not None

    def _going(self) -> bool:
        """Whether requests are still sent."""
        return self.client.stopped is None

    def _tokens(self, claim: str) -> None:
        tokens = TokenAudit(self.client, claim, self.tokenizer)
        questions = self.plan.questions()
        middle = (len(questions) + 1) // 2
        self.say("questions and token probes, first half")
        tokens.ask_half(questions[:middle])
        if self._going() and (self.plan.run_all or not tokens.decided()):
            self.say("questions and token probes, second half")
            tokens.ask_half(questions[middle:])
            if self._going() and tokens.doubtful():
                self.say("a repeat of what speaks against the claim")
                tokens.ask_half(self.plan.repeated())
        else:
            self.not_run.append(NotRun("second half", self.client.stopped or _DECIDED))
        if self.tokenizer is None:
            why = f"no tokenizer of {claim} is at hand: --tokenizer FILE"
            self.not_run += [NotRun("delta-boundaries", why), NotRun("completion-recount", why)]
        self.results += structure_tests(tokens.streams, claim=claim)
        self.results += tokens.results()
        self.findings += answer_findings(tokens.streams)
        seconds = [reply.seconds for reply in tokens.replies]
        times = times_of(tokens.streams, seconds)
        self.results.append(timing_result(times, answers=len(tokens.streams), side="endpoint"))
        self.plots = replace(tokens.plots(), times={k: sorted(v) for k, v in times.items()})
        if self.plan.parameters and not self._certain("parameters"):
            self.say("parameters")
            replies = self.client.ask_all(self.plan.parameter_requests())
            answers: list[Answer] = [one.answer for one in replies]
            self.results.append(parameter_test(list(zip(PARAMETER_PROBES, answers, strict=True))))
        if self.plan.context and not self._certain("context"):
            self.say("context")
            reply = self.client.ask(self.plan.context_request())
            self.results.append(context_test(reply.answer))

    def _against(self, used: UsedReference) -> None:
        """Hold the endpoint against recorded answers."""
        reference = used.reference
        names = Names(reference=f"the reference of {reference.model}")
        if self._certain(COMPLETIONS, LOGPROBS, "text-statistics"):
            return
        self.say(f"comparison with {used.path.name}")
        prompts = [Prompt(one.id, one.text) for one in reference.prompts]
        samples = Samples()
        alpha = self.plan.alpha / self._tests()
        recorded = reference.first_tokens()
        if recorded:
            listed = [one for one in prompts if one.id in recorded]
            had = collect_first_tokens(
                [self.client],
                [samples],
                listed,
                self.plan.logprob_samples,
                reference.sampling,
                seed=self.plan.seed,
            )
            if had:
                found = logprobs_result(
                    recorded,
                    samples.first_tokens,
                    alpha=alpha,
                    seed=self.plan.seed,
                    names=names,
                    requests=samples.requests,
                    tokens=samples.tokens,
                )
                self.results.append(self._excused(found))
            else:
                why = self.client.stopped or "the endpoint gives no log-probabilities"
                self.not_run.append(NotRun(LOGPROBS, why))
                self._border(used, names, alpha)
        else:
            self.not_run.append(NotRun(LOGPROBS, "the reference holds none"))
            self._border(used, names, alpha)
        if self._certain(COMPLETIONS, "text-statistics"):
            return
        taken = Samples()
        texts = reference.completions()
        total = self.plan.samples or max((len(one) for one in texts.values()), default=0)
        if not total:
            self.not_run.append(NotRun(COMPLETIONS, "the reference holds none"))
            return
        looks = plan_looks(alpha, min(self.plan.looks, total))
        done = 0
        for number, look in enumerate(looks, 1):
            upto = max(done + 1, round(total * look.samples))
            collect(
                [self.client],
                [taken],
                prompts,
                range(done, upto),
                reference.sampling,
                seed=self.plan.seed,
            )
            done = upto
            result, rejects = completions_result(
                texts,
                taken,
                looks[:number],
                kernel=self.plan.kernel,
                tokenizer=self.tokenizer,
                seed=self.plan.seed,
                names=names,
            )
            if rejects or self.client.stopped is not None:
                break
        repeated = answers_repeated(texts, taken.texts())
        self.results.append(self._controlled(result, used, repeated))
        self.results.append(text_result(texts, taken.texts(), seed=self.plan.seed, names=names))

    def _border(self, used: UsedReference, names: Names, alpha: float) -> None:
        """First tokens near a tie, in the place of log-probabilities and with their error rate."""
        reference = used.reference
        if not reference.border:
            self.not_run.append(NotRun(BORDER, "the reference holds none"))
            return
        if self._certain(BORDER):
            return
        prompts = [Prompt(one.id, one.text) for one in reference.border]
        (taken,) = ask_border([self.client], prompts, seed=self.plan.seed)
        result = border_result(
            {one.id: one.completions for one in reference.border},
            taken,
            {one.id: gap_of(one.first_tokens) or 0.0 for one in reference.border},
            alpha=alpha,
            seed=self.plan.seed,
            names=names,
        )
        self.results.append(self._controlled(result, used))

    def _controlled(
        self, result: TestResult, used: UsedReference, cause: str | None = None
    ) -> TestResult:
        """The result, with what the endpoint does about a temperature if that matters."""
        reference = used.reference
        result = self._excused(result, cause)
        if result.decisive and self.plan.claim is not None and self._going():
            self.say("a control of the temperature")
            prompts = [Prompt(one.id, one.text) for one in reference.prompts]
            cause, requests = temperature_ignored(self.client, prompts, reference.sampling)
            result = self._excused(replace(result, requests=result.requests + requests), cause)
        return result

    def _excused(self, result: TestResult, cause: str | None = None) -> TestResult:
        """The result, which does not decide if a harmless cause was seen.

        Without a claim the question is whether answers are those of the reference, and nothing
        else: then a difference needs no excuse.
        """
        if not result.decisive or self.plan.claim is None:
            return result
        cause = cause or hidden_prompt(self.results)
        return result if cause is None else undecided(result, cause)

    def _tests(self) -> int:
        """Tests with a reference among which the error rate is shared."""
        reference = self.reference.reference if self.reference is not None else None
        count = 0
        if reference is not None:
            count += 1 + bool(reference.first_tokens() or reference.border)
        if self.plan.asked is not None and self._baseline() is not None:
            count += 1
        return max(1, count)

    def _baseline(self) -> Mapping[str, bool] | None:
        """Which questions the reference got right; None without such.

        Raises:
            UsageError: The reference was asked other questions.
        """
        questions = self.reference.reference.questions if self.reference is not None else None
        asked = self.plan.asked
        if questions is None or asked is None:
            return None
        if questions.sha256 != asked.sha256:
            raise UsageError(
                "the reference was recorded with another file of questions",
                hint="give --questions the file that `endpoint record` was given",
            )
        if questions.max_tokens != asked.max_tokens:
            raise UsageError(
                f"the reference was given {questions.max_tokens:,} tokens for each answer, and the "
                f"endpoint would be given {asked.max_tokens:,}",
                hint=f"--question-tokens {questions.max_tokens}: answers that are cut are wrong",
            )
        return questions.right

    def _questions(self) -> None:
        asked = self.plan.asked
        if asked is None or self._certain(QUESTIONS):
            return
        self.say(plural(len(asked.questions), "question"))
        requests: list[ChatRequest] = [
            question_request(one, asked.max_tokens) for one in asked.questions
        ]
        replies = self.client.ask_all(requests)
        scored = score_replies(asked.questions, replies)
        self.results.append(
            judged_questions(
                scored,
                lenient(scored, asked.questions, replies),
                self._baseline(),
                alpha=self.plan.alpha / self._tests(),
                tolerated=asked.tolerated,
                names=Names(),
                requests=len(replies),
            )
        )

    def _report(self, started: datetime) -> EndpointReport:
        client = self.client
        claim = self.plan.claim or (
            self.reference.reference.model if self.reference is not None else "its baseline"
        )
        verdict, headline = compose(self.results, claim, stopped=client.stopped)
        findings = list(self.findings)
        sides = [Side(role="endpoint", name=redact_url(client.url)[0], model=client.model)]
        if self.reference is not None:
            used = self.reference
            findings += used.findings
            sides.append(
                Side(
                    role="reference",
                    name=used.path.name,
                    model=used.reference.model,
                    detail="; ".join(used.signers) or "not signed",
                )
            )
        if self.plan.asked is not None:
            sides.append(self.plan.asked.side())
        if client.stopped is not None:
            findings.append(finding("audit-stopped", sides[0].name, client.stopped))
        return EndpointReport(
            kind="audit",
            claim=claim,
            verdict=verdict,
            headline=headline,
            sides=tuple(sides),
            results=tuple(self.results),
            not_run=tuple(self.not_run),
            alpha=overall_alpha(self.results),
            requests=client.budget.requests,
            tokens=client.budget.tokens,
            replayed=client.replayed,
            seed=self.plan.seed,
            log=client.log_name,
            log_head=client.log_head,
            started_at=started,
            finished_at=datetime.now(UTC),
            version=r1prov.__version__,
            findings=tuple(findings),
            plots=self.plots,
        )
