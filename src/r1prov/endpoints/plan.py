"""What an audit or a comparison is to do, and what that costs at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from r1prov.endpoints.budget import Estimate
from r1prov.endpoints.chat import ChatRequest
from r1prov.endpoints.prompt_set import Prompt, builtin_prompts
from r1prov.endpoints.question_run import question_request
from r1prov.endpoints.question_set import Question
from r1prov.endpoints.reference import Sampling
from r1prov.endpoints.report import Side
from r1prov.endpoints.sampling import completion_request, first_token_request
from r1prov.endpoints.service import CONTEXT_TOKENS, PARAMETER_PROBES, context_prompt
from r1prov.endpoints.tokens.prompts import CLAIM
from r1prov.endpoints.tokens.reference import token_reference
from r1prov.errors import UsageError
from r1prov.text import plural

# Rounds of probes that both halves of an audit and a repeat may take.
_ROUNDS = 6
# Of streams: the least, and by how much each asks for less than the one before.
_LEAST_TOKENS, _STEP = 16, 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A test set that is to be put to an endpoint.

    Attributes:
        questions: It.
        sha256: Of its file, or of the file that a data set would make.
        max_tokens: Of each answer.
        tolerated: Drop of accuracy that is still taken.
        source: File name, or name of a data set with its commit.
        raw: Its file, or the file that a data set would make.
    """

    questions: tuple[Question, ...]
    sha256: str
    max_tokens: int = 4096
    tolerated: float = 0.05
    source: str = ""
    raw: bytes = field(repr=False, default=b"")

    def side(self) -> Side:
        """What a report says of it."""
        count = plural(len(self.questions), "question")
        detail = f"{count}, SHA-256 {self.sha256}"
        return Side(role="questions", name=self.source, model="", detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done.

    Attributes:
        claim: Model that is claimed; None to make no tokenizer and structure tests.
        streams: Ordinary questions to be answered as streams; half of them in each half.
        stream_tokens: Tokens of each at most.
        parameters: Whether to try parameters that DeepSeek's own API refused.
        context: Whether to send one prompt as long as R1's context.
        samples: Completions a prompt; None takes as many as the reference has.
        logprob_samples: Answers with log-probabilities a prompt.
        looks: How often the completions are looked at.
        kernel: Of the equality test.
        alpha: Error rate of all tests with a reference or a second endpoint together.
        asked: A test set; None for none.
        run_all: Whether to go on once the verdict is certain.
        seed: Of everything random.
    """

    claim: str | None = CLAIM
    streams: int = 8
    stream_tokens: int = 800
    parameters: bool = True
    context: bool = False
    samples: int | None = None
    logprob_samples: int = 2
    looks: int = 3
    kernel: str = "hamming"
    alpha: float = 0.01
    asked: Asked | None = None
    run_all: bool = False
    seed: int = 0

    def questions(self) -> list[ChatRequest]:
        """The ordinary questions, in order.

        Raises:
            UsageError: More than there are prompts.
        """
        prompts = builtin_prompts()
        if not 2 <= self.streams <= len(prompts):
            raise UsageError(
                f"{self.streams} streams cannot be asked for", hint=f"2 to {len(prompts)}"
            )
        return self._streams(prompts[: self.streams], 0)

    def _streams(self, prompts: Sequence[Prompt], start: int) -> list[ChatRequest]:
        # Answers that are cut off have as many tokens as was asked for: the same number each time
        # would look like a count that nobody made.
        return [
            ChatRequest(
                prompt=one.text,
                max_tokens=max(_LEAST_TOKENS, self.stream_tokens - _STEP * number),
                stream=True,
            )
            for number, one in enumerate(prompts, start)
        ]

    def repeated(self) -> list[ChatRequest]:
        """Half as many other questions, for a repeat."""
        prompts = builtin_prompts()
        count = (self.streams + 1) // 2
        more = (prompts * 2)[self.streams : self.streams + count]
        return self._streams(more, self.streams)

    def parameter_requests(self) -> list[ChatRequest]:
        """One request a parameter."""
        return [
            ChatRequest(prompt="Hi", max_tokens=1, fields=one.fields) for one in PARAMETER_PROBES
        ]

    def context_request(self) -> ChatRequest:
        """One prompt as long as the context."""
        return ChatRequest(
            prompt=context_prompt(),
            max_tokens=1,
            temperature=0.0,
            prompt_tokens=CONTEXT_TOKENS * 3 // 2,  # tokenizers count English much alike
        )


def requests_cost(requests: Sequence[ChatRequest]) -> Estimate:
    """What some requests cost at most."""
    return Estimate(
        len(requests),
        sum(one.prompt_estimate for one in requests),
        sum(one.max_tokens or 0 for one in requests),
    )


def estimate(
    plan: Plan,
    prompts: Sequence[Prompt] = (),
    sampling: Sampling | None = None,
    samples: int = 0,
    *,
    border: Sequence[ChatRequest] = (),
) -> Estimate:
    """What a plan costs at most, for one endpoint.

    Args:
        plan: It.
        prompts: Of the reference, or that both endpoints get.
        sampling: With which they are asked; None for none.
        samples: Completions a prompt.
        border: Requests to find border inputs and to ask them.
    """
    total = requests_cost(border)
    if plan.claim is not None:
        probes = token_reference()
        asked = [
            ChatRequest(prompt=one.text, max_tokens=1) for one in (*probes.probes, *probes.added)
        ]
        total += requests_cost([*plan.questions(), *plan.repeated()])
        total += requests_cost(asked) * _ROUNDS
        if plan.parameters:
            total += requests_cost(plan.parameter_requests())
        if plan.context:
            total += requests_cost([plan.context_request()])
    if sampling is not None:
        completions = [completion_request(one.text, sampling) for one in prompts]
        total += requests_cost(completions) * samples
        if sampling.top_logprobs:
            first = [first_token_request(one.text, sampling) for one in prompts]
            total += requests_cost(first) * plan.logprob_samples
    if plan.asked is not None:
        questions = [question_request(one, plan.asked.max_tokens) for one in plan.asked.questions]
        total += requests_cost(questions)
    return total
