"""An audit again, from its plan and its log: the same tests on the same answers, offline.

A live audit asks several things at a time, so that figures of permutations depend on who answered
first. Run again, everything is in the order of the log: the same members give the same report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from r1prov.endpoints.audit import Audit
from r1prov.endpoints.border import recorded_requests
from r1prov.endpoints.offline import OfflineClient, RecordedLog
from r1prov.endpoints.plan import Asked, estimate
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.reference_trust import UsedReference
from r1prov.endpoints.report import EndpointReport
from r1prov.endpoints.report_json import report_as_json
from r1prov.endpoints.settings import AuditSettings
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.errors import LimitExceeded
from r1prov.limits import (
    MAX_PLANNED_REQUESTS,
    MAX_RERUN_FIRST_TOKENS,
    MAX_RERUN_SAMPLES,
    MAX_TOP_LOGPROBS,
)

# Sums of floats are not the same to the last bit on every machine.
_TOLERANCE = 1e-6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What depends on who looks: who is trusted, and by which version.
_OF_THE_READER = frozenset({"r1prov"})


@dataclass(frozen=True, slots=True)
class Rerun:
    """An audit that was made again.

    Attributes:
        report: What it comes to; requests, tokens and times are those of the log.
        failed: Requests that the log shows without an answer.
        unused: Answers in the log that the plan does not ask for.
        finished: When the last answer had come; None if the log does not say.
    """

    report: EndpointReport
    failed: int
    unused: int
    finished: datetime | None


def rerun(
    settings: AuditSettings,
    log: RecordedLog,
    *,
    tokenizer: TextTokenizer | None,
    reference: UsedReference | None,
    asked: Asked | None,
) -> Rerun:
    """Run an audit on what its log holds. Answers are taken out of `log`.

    Args:
        settings: What was done.
        log: Of the exchanges.
        tokenizer: The one that the settings name.
        reference: The one that the settings name.
        asked: The questions that the settings name.

    Raises:
        LimitExceeded: Plan or reference are larger than those of any audit.
        UsageError: The plan does not fit the reference or the questions.
    """
    plan = settings.asking(asked)
    prompts = () if reference is None else reference.reference.prompts
    most = max((len(one.completions) for one in prompts), default=0)
    planned = estimate(
        plan,
        [Prompt(one.id, one.text) for one in prompts],
        None if reference is None else reference.reference.sampling,
        plan.samples or most,
        border=() if reference is None else recorded_requests(reference.reference.border),
    )
    tokens = [one.first_tokens for one in prompts]
    for count, cap, what in (
        (planned.requests, MAX_PLANNED_REQUESTS, "requests"),
        (max(most, plan.samples or 0), MAX_RERUN_SAMPLES, "completions a prompt"),
        (
            max(plan.logprob_samples, *map(len, tokens), 0),
            MAX_RERUN_FIRST_TOKENS,
            "answers with log-probabilities a prompt",
        ),
        (
            max((len(listed) for one in tokens for listed in one), default=0),
            MAX_TOP_LOGPROBS,
            "log-probabilities with one token",
        ),
    ):
        if count > cap:
            raise LimitExceeded(f"plan and reference are for {count:,} {what}; the cap is {cap:,}")
    client = OfflineClient(settings.url, settings.model, log)
    report = Audit(client, plan, tokenizer, reference).run()
    return Rerun(
        report=replace(
            report,
            requests=log.requests,
            tokens=client.tokens,
            replayed=0,
            started_at=log.started or _EPOCH,
            finished_at=log.finished or _EPOCH,
            version=settings.version,
        ),
        failed=client.failed,
        unused=log.unused,
        finished=log.finished,
    )


def differences(recorded: object, again: EndpointReport) -> list[str]:
    """Where a recorded report says something else than one that was made again.

    Signers of a reference are left out: they are judged by the keys of whoever looks.

    Args:
        recorded: The JSON value of the recorded one; anything, for a stranger wrote it.
        again: The other one.

    Returns:
        A line each: place, what is recorded and what it is; what weighs most first.
    """
    value = _comparable(json.loads(report_as_json(again)))
    return list(_differences("", _comparable(recorded), value))


def _comparable(value: object) -> object:
    """A report without what depends on who looks."""
    if not isinstance(value, dict):
        return value
    kept = {name: one for name, one in value.items() if name not in _OF_THE_READER}
    if isinstance(kept.get("findings"), list):
        kept["findings"] = [
            one
            for one in kept["findings"]
            if not isinstance(one, dict) or one.get("name") != "reference-unsigned"
        ]
    if isinstance(kept.get("sides"), list):
        kept["sides"] = [
            {name: "" if name == "detail" else text for name, text in one.items()}
            if isinstance(one, dict)
            else one
            for one in kept["sides"]
        ]
    return kept


def _differences(place: str, recorded: object, again: object) -> Iterator[str]:
    if isinstance(again, dict) and isinstance(recorded, dict):
        for name in [*again, *(one for one in recorded if one not in again)]:
            where = f"{place}.{name}" if place else name
            yield from _differences(where, recorded.get(name), again.get(name))
    elif isinstance(again, list) and isinstance(recorded, list) and len(again) == len(recorded):
        for number, (was, now) in enumerate(zip(recorded, again, strict=True)):
            label = now.get("name", number) if isinstance(now, dict) else number
            yield from _differences(f"{place}[{label}]", was, now)
    elif not _same(recorded, again):
        yield f"{place}: {_short(recorded)} is recorded, and it is {_short(again)}"


def _same(recorded: object, again: object) -> bool:
    if isinstance(again, bool) or isinstance(recorded, bool):
        return again is recorded
    if isinstance(again, int | float) and isinstance(recorded, int | float):
        return math.isclose(recorded, again, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return recorded == again


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
