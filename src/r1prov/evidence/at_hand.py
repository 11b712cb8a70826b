"""A bundle beside the model it is about: is this still that model?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.evidence.replay import bundled_manifest
from r1prov.stores.base import EntryKind
from r1prov.text import plural
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import Policy
from r1prov.verify.policy_file import parse_policy
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from r1prov.evidence.open import Bundle
    from r1prov.evidence.recording import RecordedStore
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
    policy = demands.policy
    if policy is None and index.policy is not None:
        policy = parse_policy(bundle.payload[index.policy], subject=index.policy)
    manifest = bundled_manifest(index, bundle.payload, policy, subject=bundle.subject)
    asked = Policy(
        level=index.level,
        scope=index.scope,
        scope_given=True,
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
    whole = compared == len(before.digests) or any(True for _ in found)
    state = CoverageState.CHECKED if whole else CoverageState.UNREAD
    return found, [Coverage("model at hand", state, detail)]


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
