"""The audits of endpoints that `r1prov evidence create` puts into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.evidence.parts import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r1prov.cli.audit_options import ReadyAudit
    from r1prov.endpoints.audit_files import AuditFiles
    from r1prov.endpoints.report import EndpointReport


def refuse_vain_audits(
    endpoint: str | None,
    logs: Sequence[Path],
    kinds: frozenset[Kind],
    redact: Path | None,
    *,
    reports: bool,
) -> None:
    """Whether what is asked about audits can be had.

    Raises:
        UsageError: It cannot.
    """
    from r1prov.errors import UsageError

    if reports and not logs:
        raise UsageError("--endpoint-report goes with --endpoint-log")
    if endpoint is None and not logs:
        return
    if Kind.ENDPOINT not in kinds:
        raise UsageError("--exclude endpoint leaves out what --endpoint and --endpoint-log put in")
    if redact is not None:
        raise UsageError(
            "an audit cannot be made again from digests of its answers",
            hint="leave out --redact, or put exchanges and audits into two bundles. The questions "
            "of an audit are no secret; yours of --questions are in its log",
        )


def named_questions(name: str | None) -> Path | None:
    """The file of questions that was named; those of a data set stand beside the log."""
    from r1prov.endpoints.dataset_name import is_dataset_name

    return None if name is None or is_dataset_name(name) else Path(name)


class GatheredAudits:
    """The audits that go into a bundle: those that were made before, and the one of this run."""

    def __init__(
        self,
        *,
        logs: tuple[Path, ...],
        reports: tuple[Path, ...],
        reference: Path | None,
        questions: Path | None,
        ready: ReadyAudit | None,
    ) -> None:
        self._logs, self._reports = logs, reports
        self._reference, self._questions = reference, questions
        self._ready = ready
        self._live: EndpointReport | None = None

    def __call__(self) -> list[AuditFiles]:
        """Gather them; the endpoint is asked here."""
        from r1prov.endpoints.audit_files import hold_to_report, load_audit
        from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES
        from r1prov.trust.directories import read_file

        found = [
            load_audit(one, reference=self._reference, questions=self._questions)
            for one in self._logs
        ]
        for path in self._reports:
            hold_to_report(read_file(path, MAX_EVIDENCE_INDEX_BYTES), found, subject=str(path))
        if self._ready is not None:
            self._live = self._ready.run()
            found.append(self._ready.files())
        return found

    def told(self, again: Sequence[EndpointReport]) -> list[str]:
        """What the audit of this run came to, where its log does not say that."""
        from r1prov.endpoints.result import Outcome
        from r1prov.text import printable

        live = self._live
        if live is None or not again:
            return []
        if live.verdict is again[-1].verdict:
            # Why it stopped does not stand in the log of what was asked and answered.
            stopped = again[-1].verdict is Outcome.NOT_TESTABLE
            return [f"the audit ended: {printable(live.headline, limit=500)}"] if stopped else []
        return [
            f"note: the audit came to {live.verdict.value}; made again from its log, as everyone "
            f"else will see it, it is {again[-1].verdict.value}"
        ]
