"""Asking the same prompts again and again, of one endpoint or of two by turns, in random order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from r1prov.endpoints.chat import ChatRequest, Reply
from r1prov.endpoints.client import Client
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.reference import Completion, Sampling

# Answers to the first prompt that tell whether log-probabilities are to be had.
_FIRST_TOKEN = 1


@dataclass(slots=True)
class Samples:
    """What one side answered so far.

    Attributes:
        completions: Prompt id to completions, in the order in which they were asked for.
        first_tokens: Prompt id to log-probabilities of first tokens.
        requests: Requests with a usable answer.
        tokens: Of these, as counted.
        failed: Requests without one.
    """

    completions: dict[str, list[Completion]] = field(default_factory=dict)
    first_tokens: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    requests: int = 0
    tokens: int = 0
    failed: int = 0

    def texts(self) -> dict[str, list[str]]:
        """Prompt id to the texts that are compared."""
        return {name: [one.text for one in found] for name, found in self.completions.items()}

    def add(self, prompt: str, reply: Reply) -> None:
        """Keep the completion of a reply, if it is one."""
        # What a filter cut says what the filter is, not what the model is.
        if not reply.usable or reply.answer.finish_reason == "content_filter":
            self.failed += 1
            return
        self._count(reply)
        self.completions.setdefault(prompt, []).append(completion_of(reply))

    def add_first_token(self, prompt: str, reply: Reply) -> bool:
        """Keep log-probabilities of a reply; whether there were any."""
        found = None if reply.problem is not None else reply.first_token()
        if found is None:
            self.failed += 1
            return False
        self._count(reply)
        self.first_tokens.setdefault(prompt, []).append(found)
        return True

    def _count(self, reply: Reply) -> None:
        usage = reply.answer.usage
        self.requests += 1
        if usage is not None:
            self.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)


def completion_of(reply: Reply) -> Completion:
    """What a reference keeps of a reply."""
    return Completion(
        reasoning=reply.answer.reasoning,
        content=reply.answer.content,
        finish_reason=reply.answer.finish_reason,
        seconds=reply.seconds,
    )


def completion_request(prompt: str, sampling: Sampling) -> ChatRequest:
    """A request for one completion."""
    return ChatRequest(
        prompt=prompt,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        fields={} if sampling.top_p is None else {"top_p": sampling.top_p},
    )


def first_token_request(prompt: str, sampling: Sampling) -> ChatRequest:
    """A request for the log-probabilities of the first token."""
    return ChatRequest(
        prompt=prompt,
        max_tokens=_FIRST_TOKEN,
        temperature=sampling.temperature,
        fields={"logprobs": True, "top_logprobs": sampling.top_logprobs},
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a schedule.

    Attributes:
        side: Which endpoint.
        prompt: What to ask.
    """

    side: int
    prompt: Prompt


def schedule(prompts: Sequence[Prompt], samples: range, sides: int, *, seed: int) -> Iterator[Turn]:
    """Every prompt once a sample and side, in random order.

    Sides take turns on each prompt, who is first being random too: load and time of day then meet
    both alike, and a server cannot tell the prompts of one side by their order.
    """
    order = random.Random(f"{seed}/{samples.start}")  # noqa: S311 - an order, no secret
    blocks = [prompt for prompt in prompts for _ in samples]
    order.shuffle(blocks)
    for prompt in blocks:
        turns = list(range(sides))
        order.shuffle(turns)
        yield from (Turn(side, prompt) for side in turns)


def collect(
    clients: Sequence[Client],
    into: Sequence[Samples],
    prompts: Sequence[Prompt],
    samples: range,
    sampling: Sampling,
    *,
    seed: int,
) -> None:
    """Ask for completions by a schedule; what comes back goes into the samples of each side."""
    turns = list(schedule(prompts, samples, len(clients), seed=seed))
    requests = [completion_request(one.prompt.text, sampling) for one in turns]
    replies = _ask(clients, turns, requests)
    for turn, reply in zip(turns, replies, strict=True):
        into[turn.side].add(turn.prompt.id, reply)


def collect_first_tokens(
    clients: Sequence[Client],
    into: Sequence[Samples],
    prompts: Sequence[Prompt],
    count: int,
    sampling: Sampling,
    *,
    seed: int,
) -> bool:
    """Ask for log-probabilities of first tokens; whether every side gives them.

    One request a side finds that out, so that an endpoint without them costs no more.
    """
    first = first_token_request(prompts[0].text, sampling)
    for client, samples in zip(clients, into, strict=True):
        if not samples.add_first_token(prompts[0].id, client.ask(first)):
            return False
    turns = list(schedule(prompts, range(count), len(clients), seed=seed))
    # The first answers are there already.
    for side in range(len(clients)):
        turns.remove(Turn(side, prompts[0]))
    requests = [first_token_request(one.prompt.text, sampling) for one in turns]
    for turn, reply in zip(turns, _ask(clients, turns, requests), strict=True):
        into[turn.side].add_first_token(turn.prompt.id, reply)
    return True


def ask_by_turns(
    clients: Sequence[Client], requests: Sequence[ChatRequest], *, seed: int
) -> list[list[Reply]]:
    """Every request to every side in random order; replies of each side in that of requests."""
    places = [
        Turn(side, Prompt(str(number), one.prompt))
        for number, one in enumerate(requests)
        for side in range(len(clients))
    ]
    random.Random(seed).shuffle(places)  # noqa: S311 - an order, no secret
    replies = _ask(clients, places, [requests[int(one.prompt.id)] for one in places])
    found: list[dict[int, Reply]] = [{} for _ in clients]
    for place, reply in zip(places, replies, strict=True):
        found[place.side][int(place.prompt.id)] = reply
    return [[side[number] for number in range(len(requests))] for side in found]


def _ask(
    clients: Sequence[Client], turns: Sequence[Turn], requests: Sequence[ChatRequest]
) -> list[Reply]:
    """Replies in the order of the turns, whichever endpoint each is of."""
    if len(clients) == 1:
        return clients[0].ask_all(requests)
    workers = min(one.manners.concurrency for one in clients)

    def ask(client: Client, request: ChatRequest) -> Reply:
        # What one side is asked is of no use without the other.
        why = next((one.stopped for one in clients if one.stopped is not None), None)
        return client.ask(request) if why is None else client.declined(request, why)

    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="r1prov-endpoint") as pool:
        jobs = [clients[t.side] for t in turns]
        try:
            return list(pool.map(ask, jobs, requests))
        except BaseException:
            for client in clients:
                client.interrupt()
            pool.shutdown(cancel_futures=True)
            raise
