"""What an audit is asked to do, for every command that makes one, and the audit made ready."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli import endpoint_options as options
from r1prov.cli import endpoint_session as session
from r1prov.responses.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.endpoints.acceptance import EndpointCriteria
    from r1prov.endpoints.audit import Audit
    from r1prov.endpoints.audit_files import AuditFiles
    from r1prov.endpoints.plan import Plan
    from r1prov.endpoints.report import EndpointReport

Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="FILE", help="Recorded answers to hold it against."),
]
UnsignedReference = Annotated[
    bool, typer.Option("--unsigned-reference", help="Take a reference that nobody signed.")
]
Streams = Annotated[
    int, typer.Option("--streams", min=2, max=24, metavar="N", help="Questions as streams.")
]
StreamTokens = Annotated[
    int, typer.Option("--stream-tokens", min=16, metavar="N", help="Tokens of each of them.")
]
Parameters = Annotated[
    bool,
    typer.Option(
        "--parameters/--no-parameters", help="Try what DeepSeek's own API refuses or ignores."
    ),
]
Context = Annotated[
    bool, typer.Option("--context", help="Send one prompt as long as R1's context.")
]
SampleCount = Annotated[
    int | None,
    typer.Option(
        "--samples", min=2, metavar="N", help="Completions a prompt; as many as recorded."
    ),
]
PolicyTable = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="Policy file whose table [endpoint] the audit must meet."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditChoices:
    """What is tested; each field as the option of its name."""

    claim: str
    reference: Path | None
    unsigned_reference: bool
    questions: str | None
    question_tokens: int
    drop: float
    streams: int
    stream_tokens: int
    parameters: bool
    context: bool
    samples: int | None
    logprob_samples: int
    looks: int
    kernel: options.Kernel
    alpha: float
    tokenizer: Path | None
    run_all: bool
    seed: int
    keys: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who is asked, and what that may cost; each field as the option of its name."""

    url: str
    model: str | None
    key_env: str
    plain_http: bool
    log: Path | None
    resume: bool
    max_requests: int
    max_tokens: int
    prices: Path | None
    yes: bool
    concurrency: int
    timeout: float
    retries: int
    rate: float | None
    quiet: bool


@dataclass(frozen=True, slots=True)
class ReadyAudit:
    """An audit that was agreed on, before its first request.

    Attributes:
        audit: It.
        log: Where its exchanges go; its plan stands beside it.
        what: What is tested.
        questions: File of the questions; those of a data set stand beside the log.
    """

    audit: Audit
    log: Path
    what: AuditChoices
    questions: Path | None

    def run(self) -> EndpointReport:
        """Make it."""
        return self.audit.run()

    def held_to(self, criteria: EndpointCriteria, report: EndpointReport) -> EndpointReport:
        """Its report with what it lacks of the criteria as findings.

        A criterion about weights is left to a bundle, which has their manifest.
        """
        from dataclasses import replace
        from datetime import UTC, datetime

        from r1prov.endpoints.acceptance import JudgedAudit, judge_audits

        client, used = self.audit.client, self.audit.reference
        weights = used.reference.weights if used is not None else None
        judged = JudgedAudit(
            name="endpoint",
            url=redact_url(client.url)[0],
            report=report,
            finished=report.finished_at,
            failed=client.failed,
            signers=frozenset() if used is None else used.key_ids,
            reference_manifest=None if weights is None else weights.manifest_sha256,
        )
        found = judge_audits(
            replace(criteria, reference_weights=False),
            [judged],
            at=datetime.now(UTC),
            manifest=None,
        )
        return replace(report, findings=(*report.findings, *found))

    def files(self) -> AuditFiles:
        """What it left behind."""
        from r1prov.endpoints.audit_files import load_audit

        return load_audit(self.log, reference=self.what.reference, questions=self.questions)


def criteria_of(policy: Path | None) -> EndpointCriteria | None:
    """The table `[endpoint]` of a policy file that was named.

    Raises:
        PolicyError: It has none, or it is malformed.
    """
    from r1prov.endpoints.acceptance import read_endpoint_criteria
    from r1prov.errors import PolicyError

    if policy is None:
        return None
    found = read_endpoint_criteria(policy)
    if found is None:
        raise PolicyError("has no table [endpoint]", subject=str(policy))
    return found


def falls_short(report: EndpointReport) -> bool:
    """Whether a criterion of a policy is not met."""
    return any(one.rule.name.startswith("endpoint-") for one in report.findings)


@contextmanager
def prepared(what: AuditChoices, how: Asking) -> Iterator[ReadyAudit]:
    """Check everything, say what it costs, ask, and write the plan down; nothing was tested yet.

    Raises:
        R1ProvError: Something cannot be used, or the endpoint cannot be reached.
        Abort: The user said no.
    """
    from datetime import UTC, datetime

    from r1prov.endpoints.audit import Audit
    from r1prov.endpoints.border import recorded_requests
    from r1prov.endpoints.plan import Plan, estimate
    from r1prov.endpoints.prompt_set import Prompt
    from r1prov.endpoints.reference_trust import load_reference
    from r1prov.endpoints.settings import settings_of, write_plan
    from r1prov.trust.directories import load_trust_store

    plan = Plan(
        claim=what.claim,
        streams=what.streams,
        stream_tokens=what.stream_tokens,
        parameters=what.parameters,
        context=what.context,
        samples=what.samples,
        logprob_samples=what.logprob_samples,
        looks=what.looks,
        kernel=what.kernel.value,
        alpha=what.alpha,
        asked=options.asked_questions(what.questions, what.question_tokens, what.drop),
        run_all=what.run_all,
        seed=what.seed,
    )
    used = None
    if what.reference is not None:
        used = load_reference(
            what.reference,
            load_trust_store(what.keys),
            now=datetime.now(UTC),
            unsigned=what.unsigned_reference,
        )
    recorded = () if used is None else used.reference.prompts
    most = max((len(one.completions) for one in recorded), default=0)
    cost = estimate(
        plan,
        [Prompt(one.id, one.text) for one in recorded],
        None if used is None else used.reference.sampling,
        what.samples or most,
        border=() if used is None else recorded_requests(used.reference.border),
    )
    claimed = options.claimed_tokenizer(what.tokenizer, what.claim)
    key = session.api_key(how.key_env, how.url, plain_http=how.plain_http)
    told = session.teller(quiet=how.quiet)
    log = session.log_path(how.log, resume=how.resume)
    with session.opened(
        [how.url],
        [how.model],
        [key],
        log=log,
        resume=how.resume,
        max_requests=how.max_requests,
        max_tokens=how.max_tokens,
        concurrency=how.concurrency,
        timeout=how.timeout,
        retries=how.retries,
        rate=how.rate,
        told=told,
    ) as (client,):
        session.agree([cost], [client.model], how.prices, client.budget, yes=how.yes, told=told)
        questions = _kept_questions(what, plan, log)
        settings = settings_of(client, plan, tokenizer=claimed, reference=used, questions=questions)
        write_plan(log, settings)
        yield ReadyAudit(Audit(client, plan, claimed, used, told), log, what, questions)


def _kept_questions(what: AuditChoices, plan: Plan, log: Path) -> Path | None:
    """The file of the questions: a data set may be another one tomorrow, so its are kept."""
    from r1prov.endpoints.dataset_name import is_dataset_name
    from r1prov.endpoints.settings import write_questions

    if what.questions is None or plan.asked is None:
        return None
    if is_dataset_name(what.questions):
        return write_questions(log, plan.asked)
    return Path(what.questions)
