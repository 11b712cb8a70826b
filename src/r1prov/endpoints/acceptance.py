"""What an audit has to show to be accepted: table `[endpoint]` of `r1prov.toml`.

Every key is a criterion with a rule of its own, judged on what was computed from the answers. A key
that is left out demands nothing; the table itself demands an audit that contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from r1prov.endpoints.chat import completions_url
from r1prov.endpoints.report import EndpointReport
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.errors import ManifestError, PolicyError, UsageError
from r1prov.limits import MAX_POLICY_BYTES
from r1prov.manifest.fields import SHA256, Table, nearest, read_toml
from r1prov.text import plural, quoted
from r1prov.trust.directories import read_file
from r1prov.verify.findings import Finding, finding
from r1prov.verify.policy_file import PYPROJECT, SCHEMA_PREFIX, SCHEMA_VERSION

# Tests that an audit can make, as its report names them.
TESTS = (
    *("tokenizer", "prompt-tokens", "added-tokens", "template-overhead"),
    *("delta-boundaries", "completion-recount"),
    *("reasoning", "usage-arithmetic", "model-name", "fingerprint", "parameters", "context"),
    *("completions", "log-probabilities", "text-statistics", "questions", "times"),
)
_NAME = r"[A-Za-z0-9._-]{1,128}"
_URL = r"https?://.{1,1000}"
_MOST_DAYS = 36_600


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCriteria:
    """What an audit has to show.

    Attributes:
        required: Whether there must be an audit that comes to a verdict.
        urls: Addresses that must have been audited, as completions are asked for; empty for any.
        claim: Model that must have been claimed; None for that of the bundle.
        verdict: `consistent` makes anything else an error; None leaves it incomplete.
        max_error_rate: Of the audit as a whole.
        tests: Which must have come to a result.
        min_samples: Test to independent samples at least.
        min_accuracy: Share of all questions that were answered right.
        min_accuracy_low: Lower end of the 95 % interval of that share.
        max_drop: Of accuracy against the reference, as measured.
        max_failed: Requests without an answer.
        max_age: Time between the last answer and the bundle.
        reference_signers: Keys by one of which the reference must be signed.
        reference_weights: Whether it must have been recorded from weights of the bundle's manifest.
        location: Where this is from.
    """

    required: bool = True
    urls: tuple[str, ...] = ()
    claim: str | None = None
    verdict: Outcome | None = None
    max_error_rate: float | None = None
    tests: tuple[str, ...] = ()
    min_samples: Mapping[str, int] = field(default_factory=dict)
    min_accuracy: float | None = None
    min_accuracy_low: float | None = None
    max_drop: float | None = None
    max_failed: int | None = None
    max_age: timedelta | None = None
    reference_signers: tuple[str, ...] = ()
    reference_weights: bool = False
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAudit:
    """An audit, and what a criterion can be about besides its report.

    Attributes:
        name: What findings call it.
        url: Where completions were asked for.
        report: What its answers come to.
        finished: When the last one had come; None if nobody noted it.
        failed: Requests without an answer.
        signers: Trusted keys with a good signature of its reference.
        reference_manifest: SHA-256 of the manifest that the reference says it was recorded under.
    """

    name: str
    url: str
    report: EndpointReport
    finished: datetime | None
    failed: int
    signers: frozenset[str] = frozenset()
    reference_manifest: str | None = None

    def result(self, test: str) -> TestResult | None:
        """The result of a test; None if it was not made or came to nothing."""
        found = next((one for one in self.report.results if one.name == test), None)
        return None if found is None or found.outcome is Outcome.NOT_TESTABLE else found


def read_endpoint_criteria(path: Path) -> EndpointCriteria | None:
    """The table `[endpoint]` of a policy file; None if it has none.

    Raises:
        NotFound: No such file.
        PolicyError: It is malformed.
    """
    return parse_endpoint_criteria(read_file(path, MAX_POLICY_BYTES), subject=str(path))


def parse_endpoint_criteria(raw: bytes, *, subject: str) -> EndpointCriteria | None:
    """The table `[endpoint]` of the bytes of a policy file; None if it has none.

    Raises:
        PolicyError: It is malformed.
    """
    try:
        values = read_toml(raw, subject)
        if Path(subject).name == PYPROJECT:
            tool = values.get("tool")
            table = tool.get("r1prov") if isinstance(tool, dict) else None
            values = table if isinstance(table, dict) else {}
        if "endpoint" not in values:
            return None
        top = Table(values, "", subject)
        schema = top.text("schema")
        if schema != f"{SCHEMA_PREFIX}{SCHEMA_VERSION}":
            raise top.error(f"schema is {quoted(schema)}, not `{SCHEMA_PREFIX}{SCHEMA_VERSION}`")
        # The other tables have parsers of their own, as strict.
        return _criteria(top.table("endpoint"), subject)
    except ManifestError as error:
        raise PolicyError(error.message, subject=subject, hint=error.hint) from None


def _criteria(table: Table, subject: str) -> EndpointCriteria:
    urls = []
    for text in _some(table, "urls", pattern=_URL):
        try:
            urls.append(completions_url(text))
        except UsageError as error:
            raise table.error(f"`urls`: {quoted(text)}: {error.message}") from None
    tests = _some(table, "tests")
    samples = table.optional_table("min_samples")
    least: dict[str, int] = {}
    if samples is not None:
        least = {name: samples.size(name) for name in samples.keys_matching(_NAME)}
        samples.finish()
    for name in (*tests, *least):
        if name not in TESTS:
            raise table.error(f"no test is called {quoted(name)}", hint=nearest(name, TESTS))
    days = table.optional_size("max_age_days")
    if days is not None and not 1 <= days <= _MOST_DAYS:
        raise table.error(f"`max_age_days` is {days}, not from 1 to {_MOST_DAYS:,}")
    verdict = table.optional_text("verdict")
    if verdict not in (None, Outcome.CONSISTENT):
        raise table.error(
            f"`verdict` is {quoted(str(verdict))}, not `{Outcome.CONSISTENT.value}`",
            hint="without `verdict` an audit that decides nothing leaves the verdict incomplete",
        )
    found = EndpointCriteria(
        required=table.flag("required", default=True),
        urls=tuple(urls),
        claim=table.optional_text("claim", pattern=_NAME),
        verdict=None if verdict is None else Outcome.CONSISTENT,
        max_error_rate=table.optional_share("max_error_rate"),
        tests=tests,
        min_samples=least,
        min_accuracy=table.optional_share("min_accuracy"),
        min_accuracy_low=table.optional_share("min_accuracy_low"),
        max_drop=table.optional_share("max_drop"),
        max_failed=table.optional_size("max_failed"),
        max_age=None if days is None else timedelta(days=days),
        reference_signers=_some(table, "reference_signers", pattern=SHA256),
        reference_weights=table.flag("reference_weights", default=False),
        location=subject,
    )
    table.finish()
    return found


def _some(table: Table, key: str, *, pattern: str | None = None) -> tuple[str, ...]:
    """An array that may be absent, and not empty: that could mean all or none."""
    found = table.texts(key, pattern=pattern)
    if table.has(key) and not found:
        raise table.error(f"`{key}` is empty", hint=f"leave `{key}` out to demand nothing")
    return found


def judge_audits(
    criteria: EndpointCriteria,
    audits: Sequence[JudgedAudit],
    *,
    at: datetime,
    manifest: str | None,
    model: str | None = None,
) -> Iterator[Finding]:
    """Where audits fall short of what is demanded.

    Args:
        criteria: What is demanded.
        audits: All there are. Those of other addresses than are named count for nothing.
        at: When the bundle was made, or the present.
        manifest: SHA-256 of the manifest that the weights were verified against; None if none is.
        model: Model that must have been claimed where the criteria name none; None for any.
    """
    counted = [one for one in audits if not criteria.urls or one.url in criteria.urls]
    if criteria.required and not audits:
        yield finding(
            "endpoint-required",
            "endpoint",
            "no audit that could be made again is there, and the policy asks for one",
            expected=", ".join(criteria.urls) or "an audit",
            found="none",
        )
    elif criteria.required:
        had = dict.fromkeys(one.url for one in audits)
        for url in criteria.urls:
            if url not in had:
                message = "the policy names this address, and no audit is of it"
                found = ", ".join(had)
                yield finding("endpoint-address", url, message, expected=url, found=found)
    for one in counted:
        yield from _judge(criteria, one, at, manifest, model)


def _judge(
    criteria: EndpointCriteria,
    audit: JudgedAudit,
    at: datetime,
    manifest: str | None,
    model: str | None,
) -> Iterator[Finding]:
    report, name = audit.report, audit.name
    claim = criteria.claim or model
    if claim is not None and report.claim.lower() != claim.lower():
        message = "the audit is about another model than the policy asks for"
        yield finding("endpoint-claim", name, message, expected=claim, found=report.claim)
    if criteria.verdict is not None and report.verdict is not criteria.verdict:
        yield finding(
            "endpoint-verdict",
            name,
            report.headline,
            expected=criteria.verdict.value,
            found=report.verdict.value,
        )
    most = criteria.max_error_rate
    if most is not None and (report.alpha is None or report.alpha > most):
        yield finding(
            "endpoint-error-rate",
            name,
            "the audit may err more often than the policy takes",
            expected=f"at most {most:.3g}",
            found="no decisive test was made" if report.alpha is None else f"{report.alpha:.3g}",
        )
    for test in criteria.tests:
        if audit.result(test) is None:
            why = _why_not(report, test)
            yield finding("endpoint-tests", name, f"{test} came to no result: {why}", expected=test)
    for test, least in criteria.min_samples.items():
        result = audit.result(test)
        samples = 0 if result is None else result.samples
        if samples < least:
            yield finding(
                "endpoint-samples",
                name,
                f"{test} rests on fewer samples than the policy asks for",
                expected=f"at least {least:,}",
                found=f"{samples:,}",
            )
    yield from _accuracy(criteria, audit)
    if criteria.max_failed is not None and audit.failed > criteria.max_failed:
        yield finding(
            "endpoint-failed",
            name,
            "more requests came to nothing than the policy takes",
            expected=f"at most {plural(criteria.max_failed, 'request')}",
            found=f"{audit.failed:,}",
        )
    yield from _age(criteria, audit, at)
    yield from _reference(criteria, audit, manifest)


def _why_not(report: EndpointReport, test: str) -> str:
    told = [one.why for one in report.not_run if one.name == test]
    told += [one.summary for one in report.results if one.name == test]
    return told[0] if told else "it was not part of the audit"


def _accuracy(criteria: EndpointCriteria, audit: JudgedAudit) -> Iterator[Finding]:
    result = audit.result("questions")
    figures: Mapping[str, float] = {} if result is None else result.statistics
    # A question that got no answer was not answered right.
    asked = figures.get("asked", 0.0) + figures.get("failed", 0.0)
    share = figures.get("right", 0.0) / asked if asked else None
    for least, found, what in (
        (criteria.min_accuracy, share, "the share of questions that were answered right"),
        (
            criteria.min_accuracy_low,
            figures.get("accuracy_low"),
            "the lower end of the interval of the accuracy",
        ),
    ):
        if least is not None and (found is None or found < least):
            yield finding(
                "endpoint-accuracy",
                audit.name,
                f"{what} is too low" if found is not None else f"{what} was not measured",
                expected=f"at least {least:.1%}",
                found="no question was answered" if found is None else f"{found:.1%}",
            )
    drop = figures.get("drop")
    if criteria.max_drop is not None and (drop is None or drop > criteria.max_drop):
        yield finding(
            "endpoint-drop",
            audit.name,
            "fewer questions are answered right than at the reference"
            if drop is not None
            else "accuracy was not held against a reference",
            expected=f"a drop of at most {criteria.max_drop:.1%}",
            found="not measured" if drop is None else f"{drop:+.1%}",
        )


def _age(criteria: EndpointCriteria, audit: JudgedAudit, at: datetime) -> Iterator[Finding]:
    if criteria.max_age is None:
        return
    finished = audit.finished
    if finished is None or at - finished > criteria.max_age:
        yield finding(
            "endpoint-age",
            audit.name,
            "the audit is older than the policy takes",
            expected=f"at most {plural(criteria.max_age.days, 'day')} before {at:%Y-%m-%d}",
            found="of unknown date" if finished is None else f"{finished:%Y-%m-%d}",
        )


def _reference(
    criteria: EndpointCriteria, audit: JudgedAudit, manifest: str | None
) -> Iterator[Finding]:
    wanted = criteria.reference_signers
    if wanted and audit.signers.isdisjoint(wanted):
        yield finding(
            "endpoint-reference",
            audit.name,
            "the reference is not signed by a key that the policy names and that is pinned",
            expected=f"signed by {', '.join(one[:8] for one in wanted)}",
            found=", ".join(sorted(one[:8] for one in audit.signers)) or "no such signature",
        )
    if criteria.reference_weights and (
        manifest is None or audit.reference_manifest is None or audit.reference_manifest != manifest
    ):
        stated = audit.reference_manifest
        yield finding(
            "endpoint-reference",
            audit.name,
            "the reference was not recorded from weights of the manifest in the bundle",
            expected="no manifest is at hand" if manifest is None else f"sha256:{manifest}",
            found="it names no weights" if stated is None else f"sha256:{stated}",
        )
