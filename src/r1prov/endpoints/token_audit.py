"""The tokenizer tests of an audit, in two halves, so that a model swapped halfway is noticed.

Each half asks its own questions and its own probes and is judged by itself; both are judged
together as well. Half of the questions go before the probes and half after them: who behaves for
the first requests has to behave for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.chat import ChatRequest, Reply
from r1prov.endpoints.client import Client
from r1prov.endpoints.report import Plots
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.tokens.added import (
    added_token_requests,
    added_token_test,
    template_overhead_test,
)
from r1prov.endpoints.tokens.boundaries import ALPHA, BETA, boundary_test
from r1prov.endpoints.tokens.contradiction import tokenizer_verdict
from r1prov.endpoints.tokens.deltas import cuts_of, judged
from r1prov.endpoints.tokens.explain import Observation, observe
from r1prov.endpoints.tokens.prompts import needed, prompt_token_test
from r1prov.endpoints.tokens.rates import HONEST, OTHER
from r1prov.endpoints.tokens.recount import recount_test
from r1prov.endpoints.tokens.reference import BASE, token_reference
from r1prov.endpoints.tokens.sprt import Decision, Sprt
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.verify.findings import finding

# Rounds that one half has: probes and the repeat that confirms.
_ROUNDS_A_HALF = 2
# Points of a plot: more are no longer seen.
_MAX_POINTS = 1_000
_NAMES = ("the first half", "the second half", "the repeat")


@dataclass(slots=True)
class Half:
    """What one half of the audit was answered.

    Attributes:
        observations: Of the probes, rounds from 0.
        replies: To ordinary questions.
    """

    observations: list[Observation] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    @property
    def streams(self) -> list[Answer]:
        """The answers alone."""
        return [one.answer for one in self.replies]


@dataclass(slots=True)
class TokenAudit:
    """Asks for both halves and judges them.

    Attributes:
        client: Who is asked.
        claim: Model that is claimed.
        tokenizer: Of the claimed model; None if none is at hand: then streams are not judged.
        halves: What was answered so far: two, and a third where a repeat was called for.
    """

    client: Client
    claim: str
    tokenizer: TextTokenizer | None
    halves: list[Half] = field(default_factory=list)

    def ask_half(self, questions: Sequence[ChatRequest]) -> None:
        """Ask the questions and the probes of one half."""
        half = Half()
        self.halves.append(half)
        middle = (len(questions) + 1) // 2
        self._questions(half, questions[:middle])
        while asks := needed(half.observations, claim=self.claim) or added_token_requests(
            half.observations, claim=self.claim
        ):
            replies = self.client.ask_all(
                [ChatRequest(prompt=a.probe.text, max_tokens=1, temperature=0.0) for a in asks]
            )
            half.observations += [
                observe(one.probe.id, reply.answer, round=one.round)
                for one, reply in zip(asks, replies, strict=True)
            ]
        self._questions(half, questions[middle:])

    def _questions(self, half: Half, questions: Sequence[ChatRequest]) -> None:
        half.replies += self.client.ask_all(questions)

    @property
    def observations(self) -> list[Observation]:
        """Of all halves, each with rounds of its own."""
        return [
            replace(one, round=one.round + number * _ROUNDS_A_HALF)
            for number, half in enumerate(self.halves)
            for one in half.observations
        ]

    @property
    def streams(self) -> list[Answer]:
        """Of all halves, in order."""
        return [one.answer for one in self.replies]

    @property
    def replies(self) -> list[Reply]:
        """To the questions of all halves, in order."""
        return [one for half in self.halves for one in half.replies]

    def results(self) -> list[TestResult]:
        """Every result, the verdict of the tokenizer tests last."""
        whole = self._judge(self.observations, self.streams)
        parts = [self._judge(one.observations, one.streams)[-1] for one in self.halves]
        if len(parts) < 2:
            return whole
        # Each part is a test of its own that may decide, so the rates add up.
        last = _with_rates(self._composed(whole[-1], parts), parts)
        return [*whole[:-1], *self._named(parts), last]

    def decided(self) -> bool:
        """Whether what is there makes the verdict by itself."""
        return self.results()[-1].decisive

    def _judge(
        self, observations: Sequence[Observation], streams: Sequence[Answer]
    ) -> list[TestResult]:
        prompts = prompt_token_test(observations, claim=self.claim)
        scale = 1.0
        if prompts.outcome is Outcome.CONSISTENT:
            scale = prompts.statistics.get("scale", 1.0)
        passive = []
        if self.tokenizer is not None:
            passive = [
                boundary_test(streams, self.tokenizer),
                recount_test(streams, self.tokenizer, scale=scale),
            ]
        return [
            prompts,
            added_token_test(observations, claim=self.claim),
            template_overhead_test(observations, claim=self.claim),
            *passive,
            tokenizer_verdict(prompts, passive, claim=self.claim),
        ]

    def _named(self, parts: Sequence[TestResult]) -> list[TestResult]:
        """Results of the halves, which the composed one speaks for."""
        return [
            replace(one, name=f"tokenizer, {name}", decisive=False, findings=())
            for name, one in zip(_NAMES, parts, strict=False)
        ]

    def _composed(self, whole: TestResult, parts: Sequence[TestResult]) -> TestResult:
        """The result for the audit: a contradiction in one half is one."""
        against = [one.outcome is Outcome.INCONSISTENT for one in parts]
        certain = [one.decisive for one in parts]
        if not any(against) or whole.decisive or (all(against) and not any(certain)):
            return whole
        worst = certain.index(True) if any(certain) else against.index(True)
        changed = f"{_NAMES[worst]} of the answers is not that of {self.claim}"
        findings = parts[worst].findings or whole.findings
        if not all(against):
            other = f"{changed}, {_NAMES[against.index(False)]} is not contradicted"
            found = finding("tokenizer-changed", "endpoint", other, found=parts[worst].summary)
            findings = (*findings, found)
        return replace(
            whole,
            outcome=Outcome.INCONSISTENT,
            decisive=any(certain),
            summary=f"{changed}: {parts[worst].summary}",
            findings=findings,
        )

    def doubtful(self) -> bool:
        """Whether something speaks against the claim and does not decide: a repeat may."""
        last = self.results()[-1]
        return last.outcome is Outcome.INCONSISTENT and not last.decisive

    def plots(self) -> Plots:
        """Residuals of the probes, and the path of the sequential test."""
        return Plots(
            residuals=self._residuals(),
            sprt=self._path(),
            sprt_bounds=None if self.tokenizer is None else _bounds(),
        )

    def _residuals(self) -> dict[str, float]:
        expected = token_reference().family_of(self.claim).counts
        seen = {
            (one.round, one.probe): one.tokens
            for one in self.observations
            if one.tokens is not None and one.probe in expected
        }
        found: dict[str, float] = {}
        for (number, probe), tokens in seen.items():
            base = seen.get((number, BASE))
            if base is None or probe == BASE:
                continue
            label = probe if number == 0 else f"{probe}, round {number + 1}"
            found[label] = (tokens - base) - float(expected[probe] - expected[BASE])
        return found

    def _path(self) -> tuple[float, ...]:
        if self.tokenizer is None:
            return ()
        sprt = Sprt(HONEST, OTHER, ALPHA, BETA)
        path = [0.0]
        used = [one for one in self.streams if one.streamed and one.countable]
        found = [cuts_of(one, self.tokenizer) for one in used]
        for cuts in judged([one for one in found if one is not None]):
            if cuts.rechunked is not None:
                continue
            for trial in cuts.trials:
                decision = sprt.add(hit=trial)
                path.append(sprt.ratio)
                if decision is not Decision.CONTINUE:
                    sprt.restart()
                    path.append(0.0)
        step = max(1, len(path) // _MAX_POINTS)
        return tuple(path[::step])


def _with_rates(result: TestResult, parts: Sequence[TestResult]) -> TestResult:
    rates = [one.error_rates for one in (result, *parts) if one.error_rates is not None]
    if not rates:
        return result
    total = min(1.0, sum(one.alpha or 0.0 for one in rates))
    return replace(result, error_rates=replace(rates[0], alpha=total))


def _bounds() -> tuple[float, float]:
    import math

    return math.log(BETA / (1 - ALPHA)), math.log((1 - BETA) / ALPHA)
