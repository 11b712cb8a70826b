"""Open a model without reading its weights; each tensor is checked when it is read.

The manifest states a digest for each tensor in its sidecar. A tensor is read into memory of the
caller, hashed there and handed out from there, so what is on disk afterwards does not matter.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from r1prov.errors import SafetensorsError, UsageError
from r1prov.formats.safetensors import read_header
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.manifest.loadable import loadable_inventory, loadable_weights
from r1prov.manifest.schema import Role
from r1prov.manifest.tensor_digests import load_tensor_digests
from r1prov.stores.headers import safetensors_paths
from r1prov.stores.local import LocalBlob
from r1prov.text import plural, quoted
from r1prov.verify.by_tensor import ModelTensor, check_by_tensor
from r1prov.verify.checks.digests import check_digests
from r1prov.verify.checks.listing import OTHER_FILES, WEIGHT_FILES
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Part,
    Report,
    Verdict,
    decide,
    finding,
    from_format_error,
)
from r1prov.verify.hashing import HashedModel
from r1prov.verify.policy import Scope
from r1prov.verify.scope import scoped_findings
from r1prov.verify.verified import VerifiedModel, failed_later, not_passed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from r1prov.formats.inventory import Tensor
    from r1prov.formats.safetensors import Header
    from r1prov.formats.shard_index import ShardIndex
    from r1prov.manifest.schema import FileEntry
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.manifest.tensor_digests import TensorDigest
    from r1prov.stores.captured import CapturedStore

# What level `structure` leaves open, and is checked here or when a tensor is read.
_LATER: Final = frozenset({WEIGHT_FILES, OTHER_FILES})


def open_lazily(
    store: CapturedStore,
    report: Report,
    shelved: ShelvedManifest,
    index: ShardIndex | None,
    framework: str,
) -> VerifiedModel:
    """Open a model of which structure and small files were verified.

    Args:
        store: The model, with copies of its small files.
        report: Its report at level `structure`.
        shelved: The manifest that the report rests on.
        index: The model's shard index.
        framework: `np` or `pt`.

    Raises:
        VerificationFailed: Something else than the digests of weights is not as it must be.
        UsageError: The manifest states no digests of tensors.
        ManifestError: Its sidecar is malformed or another one.
        StoreError: The sidecar or a weight file cannot be read.
    """
    manifest = shelved.manifest
    if manifest.tensors is None:
        raise UsageError(
            f"manifest {manifest.name} states no digests of tensors, so `lazy` has none to check",
            hint="make one with `r1prov manifest create --tensors`, or open without `lazy`",
        )
    report = _check_other_files(store, report, shelved)
    signed = {one.name: one for one in load_tensor_digests(manifest, shelved.path.parent)}
    paths = loadable_weights(
        safetensors_paths(entry.path for entry in manifest.files if entry.role is Role.WEIGHTS),
        index,
    )
    with ExitStack() as stack:
        blobs = {path: stack.enter_context(store.open(path)) for path in paths}
        headers = dict(_headers(blobs, report))
        inventory = loadable_inventory(headers, paths)
        # Names, dtypes and shapes now; content, which is left open here, when it is read.
        here = [ModelTensor(t.name, t.dtype, t.shape, None, t.file) for t in inventory]
        found = check_by_tensor(tuple(signed.values()), here).findings
        if found:
            report = replace(report, findings=(*report.findings, *found), verdict=Verdict.FAIL)
            raise not_passed(report)
        tensors = {tensor.name: tensor for tensor in inventory}
        content = CheckedTensors(stack.pop_all(), report, blobs, headers, tensors, signed)
    return VerifiedModel(
        report, store, manifest, tensors, content, metadata=None, framework=framework
    )


def _headers(blobs: Mapping[str, LocalBlob], report: Report) -> Iterator[tuple[str, Header]]:
    for path, blob in blobs.items():
        try:
            yield path, read_header(blob.read_at, blob.size, file=path)
        except SafetensorsError as error:  # it was well-formed a moment ago
            raise failed_later(report, from_format_error(error, path, part=Part.WEIGHTS)) from None


def _check_other_files(store: CapturedStore, report: Report, shelved: ShelvedManifest) -> Report:
    """The report with the digests of everything that is no weight file.

    Raises:
        VerificationFailed: Something is not as signed, or is left open that is not checked later.
    """
    others = [one for one in shelved.manifest.files if one.role is not Role.WEIGHTS]
    hashed = _hash(store, others)
    bad = list(check_digests(shelved.manifest, hashed, {}, ()))
    unknown = [one for one in others if one.sha256 is None or one.path not in hashed.digests]
    state = CoverageState.SKIPPED if unknown else CoverageState.CHECKED
    equal = len(others) - len(unknown) - len(bad)
    rows = [
        Coverage(OTHER_FILES, state, f"{equal} of {plural(len(others), 'file')} equal"),
        Coverage(WEIGHT_FILES, CoverageState.SKIPPED, "each tensor is checked when it is read"),
    ]
    coverage = tuple(one for one in report.coverage if one.item not in _LATER) + tuple(rows)
    scope = Scope(report.scope)
    findings = (*report.findings, *scoped_findings(bad, scope))
    report = replace(
        report,
        findings=findings,
        coverage=coverage,
        verdict=decide(findings, coverage),
        digests={path: one.sha256 for path, one in sorted(hashed.digests.items())},
        bytes_hashed=hashed.bytes_read,
    )
    lacking = [
        one
        for one in coverage
        if one.required
        and one.state is not CoverageState.CHECKED
        and one.item != WEIGHT_FILES
        and not (one.item == OTHER_FILES and scope is Scope.WEIGHTS)
    ]
    if report.verdict is Verdict.FAIL or lacking:
        raise not_passed(report)
    return report


def _hash(store: CapturedStore, entries: list[FileEntry]) -> HashedModel:
    sizes = {entry.path: entry.size for entry in store.entries()}
    jobs = [HashJob(one.path, sizes[one.path]) for one in entries if one.path in sizes]
    result = hash_blobs(store.open, jobs)
    return HashedModel(result.digests, result.errors)


class CheckedTensors:
    """Tensors that are read from disk and checked each time they are asked for."""

    def __init__(
        self,
        files: ExitStack,
        report: Report,
        blobs: Mapping[str, LocalBlob],
        headers: Mapping[str, Header],
        tensors: Mapping[str, Tensor],
        signed: Mapping[str, TensorDigest],
    ) -> None:
        self._files = files
        self._report = report
        self._blobs = blobs
        self._begins = {path: 8 + header.header_bytes for path, header in headers.items()}
        self._tensors = tensors
        self._signed = signed

    def of(self, name: str) -> memoryview:
        """The bytes of the tensor with that name, in memory of the caller's own.

        Raises:
            VerificationFailed: They are not what was signed.
            StoreError: They cannot be read.
        """
        tensor, signed = self._tensors[name], self._signed[name].sha256
        begin = self._begins[tensor.file] + tensor.begin
        data = self._blobs[tensor.file].read_at(begin, tensor.end - tensor.begin)
        found = hashlib.sha256(data).hexdigest()
        if found != signed:
            raise failed_later(self._report, _differs(tensor, signed, found))
        return memoryview(data)

    def close(self) -> None:
        """Close the files."""
        self._files.close()


def _differs(tensor: Tensor, signed: str, found: str) -> Finding:
    return finding(
        "tensor-digest",
        tensor.name,
        f"the bytes in {quoted(tensor.file)} are not those that were signed",
        expected=f"sha256:{signed}",
        found=f"sha256:{found}",
        part=Part.WEIGHTS,
    )
