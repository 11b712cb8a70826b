"""Write a first policy for the model at hand: what holds today, demanded from now on.

Nothing is let through by a draft. What the model has beyond its manifest, or lacks, stands in it
as comments, for somebody to decide.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import NameRuleError, UsageError
from r1prov.manifest.shelf import resolve_manifest
from r1prov.text import is_unsafe, plural, printable
from r1prov.trust.store import SignatureState
from r1prov.trust.store import decide as decide_trust
from r1prov.verify.checks.identity import EXPECT_FULL, REFERENCE_OF_FULL, meets
from r1prov.verify.checks.provenance import check_commit
from r1prov.verify.globs import parse_glob
from r1prov.verify.oms import verify_with_bundle
from r1prov.verify.oms_bundle import attribute, read_bundle
from r1prov.verify.pipeline import verify
from r1prov.verify.policy import Level, Policy
from r1prov.verify.policy_file import SCHEMA_PREFIX, SCHEMA_VERSION, parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.schema import Manifest
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.stores.base import Store
    from r1prov.trust.store import TrustDecision
    from r1prov.verify.findings import Finding
    from r1prov.verify.oms_bundle import BundleFile
    from r1prov.verify.pipeline import Authorities

# How long an exception of a draft lasts once somebody takes its comment signs away.
_DAYS = 90
_SHOWN = 20
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_HEAD = (
    "# Policy of r1prov: which models may be deployed, and what each needs.",
    "# `r1prov policy check` says in plain words what it demands.",
    f'schema = "{SCHEMA_PREFIX}{SCHEMA_VERSION}"',
    "",
    "# Whether digests of an earlier run, or digests that a store only states, are enough.",
    'cached_digests = "allow"',
    'stated_digests = "allow"',
    "# Whether a manifest may lack digests of files other than weights and code.",
    'partial_manifests = "refuse"',
    "",
    "# Another weight for a rule, with the reason. Example:",
    "# [rules.custom-code]",
    '# severity = "error"',
    '# reason = "no model code on our servers"',
    "",
    "# A model that no entry names fails; each must fall under exactly one.",
    "[[models]]",
)
_DEPTH = (
    'min_level = "full"',
    '# "weights": small files may differ. A command line that says less than "all" then fails.',
    'scope = "all"',
)
_KINDS = {"file-unlisted": "extra", "not-covered": "extra", "file-missing": "missing"}


def draft_policy(
    store: Store,
    authorities: Authorities,
    *,
    manifest: str | None = None,
    folder: Path | None = None,
    now: datetime | None = None,
) -> str:
    """A commented policy for a model, which today's manifest and signatures meet.

    Headers and listing are read; nothing is hashed.

    Args:
        store: The model.
        authorities: Manifests and trusted keys.
        manifest: Manifest file, model name or OpenSSF Model Signing bundle; None identifies the
            model.
        folder: Where the policy will lie; a manifest file is named relative to it.
        now: When signatures are judged.

    Raises:
        UsageError: No manifest fits the model, or none that a policy could demand.
        BundleError: What begins as a bundle is none.
    """
    now = now or datetime.now(UTC)
    asked = Policy(level=Level.STRUCTURE)
    bundle = read_bundle(manifest) if manifest is not None else None
    if bundle is not None:
        return _checked([*_HEAD, *_lines_of_bundle(store, authorities, bundle, asked, now)])
    report = verify(store, authorities, asked, manifest=manifest, now=now)
    if report.manifest is None:
        raise UsageError(
            "no manifest fits this model, so there is nothing that a policy could demand",
            subject=report.model,
            hint="make one first (r1prov manifest create), sign it, and name it with --manifest",
        )
    shelved = resolve_manifest(authorities.shelf, manifest or report.manifest.name)
    decision = decide_trust(
        authorities.trust,
        model=shelved.manifest.name,
        data=shelved.raw,
        bundles=shelved.bundles(),
        now=now,
    )
    lines = [
        *_HEAD,
        f'name = "{shelved.manifest.name}"',
        *_manifest_lines(shelved, on_shelf=_on_shelf(authorities, shelved), folder=folder),
        *_signer_lines(shelved, decision),
        *_model_lines(shelved.manifest, authorities),
        *_DEPTH,
        *_finding_lines(report.findings, now),
    ]
    return _checked(lines)


def _checked(lines: list[str]) -> str:
    text = "\n".join(lines) + "\n"
    parse_policy(text.encode(), subject="the drafted policy")
    return text


def _lines_of_bundle(
    store: Store, authorities: Authorities, bundle: BundleFile, asked: Policy, now: datetime
) -> Iterator[str]:
    """The entry for a model whose manifest is an OpenSSF Model Signing bundle.

    Raises:
        UsageError: No trusted key signed a statement, whose name the entry would have.
    """
    signed = attribute(bundle, authorities.trust, now)
    if signed.statement is None:
        raise UsageError(
            "no trusted key signed this bundle, so there is nothing that a policy could demand",
            subject=str(bundle.path),
            hint="trust its key first: r1prov key add",
        )
    report = verify_with_bundle(store, authorities, asked, bundle, now=now)
    yield "# The name in the signed statement; `?` stands for what a policy cannot spell."
    yield f'name = "{_NOT_IN_NAMES.sub("?", signed.statement.name)[:128]}"'
    yield from _signer_lines(bundle, signed.decision)
    yield from _DEPTH
    yield from _finding_lines(report.findings, now)


def _on_shelf(authorities: Authorities, shelved: ShelvedManifest) -> bool:
    found = authorities.shelf.find(shelved.manifest.name)
    return found is not None and found.path == shelved.path


def _manifest_lines(
    shelved: ShelvedManifest, *, on_shelf: bool, folder: Path | None
) -> Iterator[str]:
    if on_shelf:
        yield f'manifest = "{shelved.manifest.name}"'
    else:
        path = os.path.relpath(shelved.path, folder or Path())
        if not path.endswith(".toml") or any(map(is_unsafe, path)):
            raise UsageError(
                "a policy names manifest files that end in .toml, of printable characters",
                subject=str(shelved.path),
            )
        yield f"manifest = {_quoted(path)}"


def _signer_lines(shelved: ShelvedManifest | BundleFile, decision: TrustDecision) -> Iterator[str]:
    good = {
        one.key_id: one.owner or "unknown"
        for one in decision.checks
        if one.state is SignatureState.GOOD
    }
    if good:
        yield "# Pins these very bytes: then a manifest that is signed anew needs a new policy."
        yield f'# manifest_sha256 = "{shelved.sha256}"'
        yield "# Keys that count, and how many of them must have signed."
        yield "signers = ["
        yield from (f'  "{key}",  # {printable(owner)}' for key, owner in sorted(good.items()))
        yield "]"
        yield f"threshold = {len(good)}"
    else:
        yield "# No trusted key signed the manifest: only its digest says which one is meant."
        yield f'manifest_sha256 = "{shelved.sha256}"'
        yield '# signers = ["…key id…"]'


def _model_lines(manifest: Manifest, authorities: Authorities) -> Iterator[str]:
    reference = authorities.shelf.find(REFERENCE_OF_FULL)
    full = manifest.variant == EXPECT_FULL
    if not full or meets(EXPECT_FULL, manifest, reference.manifest if reference else None):
        yield f'variant = "{manifest.variant}"'
    _, _, proof, _ = check_commit(manifest, authorities.hub_key)
    if proof is None:
        yield '# The manifest carries no Hub commit; "holds" or "signed" would demand one.'
        yield '# commit_proof = "holds"'
    else:
        yield f"# A commit of the Hub binds the digests{' and is signed' if proof.signed else ''}."
        yield f'commit_proof = "{"signed" if proof.signed else "holds"}"'


def _finding_lines(findings: tuple[Finding, ...], now: datetime) -> Iterator[str]:
    """Today's differences, as exceptions that somebody may take."""
    fitting = [one for one in findings if one.rule.name in _KINDS]
    if not fitting:
        yield ""
        yield "# Listing: nothing is missing and nothing is there beyond the manifest."
        return
    until = (now.astimezone(UTC).date() + timedelta(days=_DAYS)).isoformat()
    yield ""
    yield f"# {plural(len(fitting), 'file')} beyond the manifest, or missing. To let one be, take"
    yield "# the comment signs of its table away and say why."
    for one in fitting[:_SHOWN]:
        yield "#"
        if not _can_be_named(one.subject):
            yield f"# {printable(one.subject)}: a name that no policy may carry; rename the file"
            continue
        yield "# [[models.allow]]"
        yield f'# kind = "{_KINDS[one.rule.name]}"'
        yield f"# files = {_quoted(one.subject)}"
        yield '# reason = "…"'
        yield f"# expires = {until}"
    if len(fitting) > _SHOWN:
        yield f"# … and {plural(len(fitting) - _SHOWN, 'more file')}: r1prov verify lists them"


def _can_be_named(path: str) -> bool:
    """Whether a policy can mean this file and no other."""
    try:
        return parse_glob(path).exact
    except NameRuleError:
        return False


def _quoted(text: str) -> str:
    """A TOML string; of printable text, JSON writes the same."""
    return json.dumps(text, ensure_ascii=False)
