"""A bundle beside the model it is about: is this still that model?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from r1prov.evidence.replay import bundled_manifest, bundled_policy
from r1prov.stores.base import EntryKind
from r1prov.text import plural
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import Level, Policy
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from r1prov.evidence.open import Bundle
    from r1prov.evidence.recorded import RecordedStore
    from r1prov.evidence.verify import Demands
    from r1prov.stores.base import Store
    from r1prov.verify.findings import Report


def compare_with_model(
    bundle: Bundle,
    model: Store,
    authorities: Authorities,
    replayed: Report | None,
    before: RecordedStore | None,
    demands: Demands,
    now: datetime,
    progress: Callable[[int], Callable[[int], None]] | None,
) -> tuple[list[Finding], list[Coverage]]:
    """Verify the model at hand as the bundle's was, and compare file by file.

    Args:
        bundle: The bundle; intact.
        model: The model.
        authorities: Whom the verifier trusts.
        replayed: The verdict made again; its findings are not repeated.
        before: The recorded model.
        demands: What else is asked for.
        now: The present.
        progress: As in `verify`.

    Raises:
        StoreError: The model cannot be read.
    """
    index = bundle.index
    policy, theirs = demands.policy, demands.policy is None
    if theirs:
        policy = bundled_policy(index, bundle.payload, subject=bundle.subject)
    manifest = bundled_manifest(
        index, bundle.payload, policy, subject=bundle.subject, theirs=theirs
    )
    asked = Policy(
        # Whatever the maker looked at: the model is here to be read.
        level=Level.FULL,
        scope=demands.scope or index.scope,
        scope_given=demands.scope is not None or theirs,
        expect=demands.expect or index.expected,
        workers=demands.workers,
        read_all=True,
        file=policy,
    )
    report = verify(model, authorities, asked, manifest=manifest, now=now, progress=progress)
    known = {(one.rule.name, one.subject) for one in (replayed.findings if replayed else ())}
    found = [
        one
        for one in report.findings
        if one.severity is Severity.ERROR and (one.rule.name, one.subject) not in known
    ]
    if before is None:
        why = "compared with the manifest only: the bundle has no listing of the model"
        return found, [Coverage("model at hand", CoverageState.UNREAD, why)]
    found += _differences(before, model, report)
    compared = sum(path in report.digests for path in before.digests)
    detail = f"{plural(compared, 'digest')} of {len(before.digests)} compared, as read now"
    whole = bool(before.digests) and compared == len(before.digests)
    state = CoverageState.CHECKED if whole or found else CoverageState.UNREAD
    rows = [Coverage("model at hand", state, detail)]
    files = [one for one in before.entries() if one.kind is EntryKind.FILE]
    if len(files) > len(before.digests):
        left = len(files) - len(before.digests)
        why = f"{plural(left, 'file')} by name and size only: the bundle has no digest"
        rows.append(Coverage("model at hand", CoverageState.SKIPPED, why, required=False))
    # What could not be read of it is open here too.
    open_already = {one.item for one in replayed.coverage} if replayed else set()
    rows += [
        replace(one, item=f"model at hand: {one.item}")
        for one in report.coverage
        if one.required
        and one.state is not CoverageState.CHECKED
        and (one.state is CoverageState.UNREAD or one.item not in open_already)
    ]
    return found, rows


def _differences(before: RecordedStore, model: Store, report: Report) -> Iterator[Finding]:
    was = {one.path: one for one in before.entries()}
    now = {one.path: one for one in model.entries()}
    for path in sorted(was.keys() | now.keys()):
        old, new = was.get(path), now.get(path)
        if old is None or new is None:
            message = "is not in the bundle" if old is None else "is in the bundle, and not here"
            yield finding("evidence-model", path, message)
        elif old.kind is not new.kind or (old.kind is EntryKind.FILE and old.size != new.size):
            yield finding(
                "evidence-model",
                path,
                "of another size or kind",
                expected=f"{old.kind.value}, {old.size:,} bytes",
                found=f"{new.kind.value}, {new.size:,} bytes",
            )
        elif path in before.digests and report.digests.get(path) not in (
            None,
            before.digests[path],
        ):
            yield finding(
                "evidence-model",
                path,
                "another content than the bundle has of it",
                expected=f"sha256:{before.digests[path]}",
                found=f"sha256:{report.digests[path]}",
            )
