"""Verify a model and load it with nothing in between: the call is `r1prov.open_verified`.

Weights are read from disk once, into memory that nobody can change (`stores.captured`). The checks
read that copy, and tensors are views of it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import ChangedWhileReading, ManifestError, UsageError
from r1prov.formats.arrays import check_framework
from r1prov.formats.shard_index import parse_shard_index
from r1prov.limits import MAX_SHARD_INDEX_BYTES
from r1prov.manifest.loadable import INDEX_NAME, loadable_inventory, loadable_weights
from r1prov.manifest.shelf import resolve_manifest
from r1prov.stores.base import read_small
from r1prov.stores.captured import CapturedStore
from r1prov.stores.headers import read_headers, safetensors_paths
from r1prov.stores.hub_cache import find_snapshot
from r1prov.stores.local import LocalStore
from r1prov.stores.locate import SCHEMES, open_store
from r1prov.verify.findings import Report, Verdict
from r1prov.verify.load_lazy import open_lazily
from r1prov.verify.local import load_authorities
from r1prov.verify.oms_bundle import read_bundle
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import By, Level, Policy, Scope
from r1prov.verify.policy_file import find_policy
from r1prov.verify.rules import Severity
from r1prov.verify.verified import (
    SMALL_FILE_BYTES,
    VerifiedModel,
    closed_model,
    common_metadata,
    not_passed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from r1prov.formats.inventory import Tensor
    from r1prov.formats.safetensors import Header
    from r1prov.formats.shard_index import ShardIndex
    from r1prov.manifest.shelf import ShelvedManifest


def open_verified(
    path: str | os.PathLike[str],
    manifest: str | os.PathLike[str] | None = None,
    *,
    expect: str | None = None,
    keys: Path | None = None,
    policy: Path | None = None,
    scope: Scope | str | None = None,
    by: By | str = By.FILE,
    framework: str = "np",
    lazy: bool = False,
    max_bytes: int | None = None,
    workers: int | None = None,
) -> VerifiedModel:
    """Open a local safetensors model whose tensors are the bytes that were verified.

    The whole model is held in memory, once; see docs/load.md for what that costs.

    Args:
        path: Directory or weight file.
        manifest: Manifest file or model name; None identifies the model.
        expect: Model name, or `full`, that the model must be.
        keys: Trust only the keys of this directory.
        policy: Policy file; None looks for one (`find_policy`).
        scope: `all` files or `weights`; None takes what the policy says, else `all`.
        by: `file` or `tensor`, as for `verify_path`; not with `lazy`.
        framework: `np` or `pt`.
        lazy: Keep no weights in memory; check each tensor when it is read, against the digests of
            tensors that the manifest states. What is never read is never checked, so the report
            stays `incomplete`.
        max_bytes: Memory that the model may take; None means what is free.
        workers: Hashing threads; None takes one a processor.

    Raises:
        VerificationFailed: The verdict is not `pass`; carries the report.
        UsageError: The model is not on this machine or has no safetensors weights, the framework is
            not installed, or `lazy` is asked for and the manifest has no digests of tensors.
        LimitExceeded: The model takes more memory than it may.
        R1ProvError: It could not be decided.
    """
    check_framework(framework)
    asked_by = By(by)
    if lazy and asked_by is By.TENSOR:
        raise UsageError("`lazy` compares by tensor anyway, in the files that the manifest lists")
    store = None if is_remote(path) else open_store(path)
    if not isinstance(store, LocalStore):
        raise UsageError(
            "only a directory or file of this machine can be opened",
            subject=os.fspath(path),
            hint="download the model, then open the directory",
        )
    found = find_policy(policy, model=Path(path))
    asked = Policy(
        scope=Scope(scope or Scope.ALL),
        scope_given=scope is not None,
        expect=expect,
        workers=workers,
        by=asked_by,
        file=found.file,
        ignored=found.ignored,
    )
    wanted = None if manifest is None else os.fspath(manifest)
    if wanted is not None and read_bundle(wanted) is not None:
        raise UsageError(
            "only what a manifest lists can be opened, and this is an OpenSSF Model Signing bundle",
            subject=wanted,
            hint="make a manifest: `r1prov manifest create`",
        )
    authorities = load_authorities(keys, found.file)
    # The cheap checks first: nobody wants 689 GB copied to hear that a file is missing.
    # Only the digests of tensors tell that files of other names are the same model.
    if asked_by is By.FILE:
        first = verify(store, authorities, replace(asked, level=Level.STRUCTURE), manifest=wanted)
        _refuse_hopeless(first)
    kept = CapturedStore(find_snapshot(path) or path, keep=_small if lazy else _kept)
    kept.check_room(max_bytes)
    if lazy:
        report = verify(kept, authorities, replace(asked, level=Level.STRUCTURE), manifest=wanted)
        shelved = _manifest_of(report, authorities, wanted)
        return open_lazily(kept, report, shelved, _index(kept), framework)
    report = verify(kept, authorities, asked, manifest=wanted)
    if report.verdict is not Verdict.PASS:
        raise not_passed(report)
    _refuse_without_weights(report)
    shelved = _manifest_of(report, authorities, wanted)
    return _open_captured(kept, report, shelved, asked_by, framework)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a MODEL is elsewhere; what a store there states says nothing of files here."""
    scheme, separator, _ = os.fspath(path).partition("://")
    elsewhere = scheme in set(SCHEMES) - {"ollama"}
    return elsewhere and bool(separator) and not os.path.lexists(path)


def _small(path: str, size: int) -> bool:
    return size <= SMALL_FILE_BYTES and not safetensors_paths([path])


def _kept(path: str, size: int) -> bool:
    """What can be handed out: weights, and small files.

    A large file of another kind is verified and stays on disk.
    """
    return size <= SMALL_FILE_BYTES or bool(safetensors_paths([path]))


def _refuse_hopeless(report: Report) -> None:
    errors = [one for one in report.findings if one.severity is Severity.ERROR]
    # A policy may ask for every byte, which is what comes next (and never comes with `lazy`: the
    # second report refuses that).
    if any(one.rule.name != "policy-level" for one in errors) or report.manifest is None:
        raise not_passed(report)
    _refuse_without_weights(report)


def _refuse_without_weights(report: Report) -> None:
    if report.tensors == 0:
        raise UsageError(
            "the model has no safetensors weights",
            subject=report.model,
            hint="GGUF and other files are verified with `r1prov verify`",
        )


def _manifest_of(report: Report, authorities: Authorities, wanted: str | None) -> ShelvedManifest:
    """The manifest that a report rests on: the same bytes, not merely the same name."""
    used = report.manifest
    if used is None:
        raise not_passed(report)
    known = [*authorities.shelf.items]
    if wanted is not None:
        known.append(resolve_manifest(authorities.shelf, wanted))
    for shelved in known:
        if shelved.sha256 == used.sha256:
            return shelved
    raise ManifestError("changed while the model was verified", subject=used.location)


def _index(store: CapturedStore) -> ShardIndex | None:
    if store.captured(INDEX_NAME) is None:
        return None
    return parse_shard_index(read_small(store, INDEX_NAME, MAX_SHARD_INDEX_BYTES), file=INDEX_NAME)


def _open_captured(
    store: CapturedStore, report: Report, shelved: ShelvedManifest, by: By, framework: str
) -> VerifiedModel:
    there = safetensors_paths(store.captured_paths())
    if by is By.FILE:
        # A policy can let an extra weight file through: it may lie there, not be loaded as signed.
        signed = {entry.path: entry.sha256 for entry in shelved.manifest.files}
        there = [path for path in there if signed.get(path) == report.digests.get(path, "")]
    paths = loadable_weights(there, _index(store))
    headers, _ = read_headers(store, paths)  # of the bytes that passed: none is malformed
    tensors = {tensor.name: tensor for tensor in loadable_inventory(headers, paths)}
    return VerifiedModel(
        report,
        store,
        shelved.manifest,
        tensors,
        CapturedTensors(store, headers, tensors),
        metadata=common_metadata(headers),
        framework=framework,
    )


class CapturedTensors:
    """Tensors as views of the copies that were verified."""

    def __init__(
        self, store: CapturedStore, headers: Mapping[str, Header], tensors: Mapping[str, Tensor]
    ) -> None:
        self._views: dict[str, memoryview] = {}
        begins = {path: 8 + header.header_bytes for path, header in headers.items()}
        for name, tensor in tensors.items():
            data = store.captured(tensor.file)
            if data is None:
                raise ChangedWhileReading("was not there when it was read", subject=tensor.file)
            begin = begins[tensor.file]
            self._views[name] = data[begin + tensor.begin : begin + tensor.end]

    def of(self, name: str) -> memoryview:
        """The bytes of the tensor with that name, read-only.

        Raises:
            UsageError: Another thread closed the model meanwhile.
        """
        try:
            return self._views[name]
        except KeyError:
            raise closed_model() from None

    def close(self) -> None:
        """Let go of the copies."""
        self._views = {}
