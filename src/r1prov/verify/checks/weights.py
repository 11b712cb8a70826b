"""Structure: headers, the inventory, the config against both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from r1prov.errors import FormatError, InputError, StoreError
from r1prov.family.blueprint import expected_inventory
from r1prov.formats.gguf_semantics import check_semantics
from r1prov.manifest.schema import Role
from r1prov.stores.headers import gguf_paths, safetensors_paths
from r1prov.text import plural
from r1prov.verify.checks.code_references import config_finding
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Part,
    finding,
    from_format_error,
)
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from r1prov.formats.inventory import Inventory
    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

# Tensors named in one finding; the count always says how many there are.
_NAMED = 5


def check_headers(evidence: Evidence) -> Iterator[Finding]:
    """Every weight file must have a header that follows the specification of its format."""
    for path, error in evidence.header_errors.items():
        if isinstance(error, FormatError):
            yield from_format_error(error, path, part=Part.WEIGHTS)
    warnings = {path: header.warnings for path, header in evidence.headers.items()}
    warnings |= {path: header.warnings for path, header in evidence.gguf.items()}
    for path, found in warnings.items():
        for name, message in found:
            yield finding(name, path, message, part=Part.WEIGHTS, severity=Severity.WARNING)
    for path, gguf in evidence.gguf.items():
        for name, message in check_semantics(gguf):
            yield finding(name, path, message, part=Part.WEIGHTS)


def coverage_of_headers(manifest: Manifest) -> Iterator[Coverage]:
    """Weight files in formats whose headers r1prov does not read are known by digest only."""
    weights = [entry.path for entry in manifest.files if entry.role is Role.WEIGHTS]
    opaque = sorted(set(weights) - set(safetensors_paths(weights)) - set(gguf_paths(weights)))
    if opaque:
        yield Coverage(
            "structure of weight files",
            CoverageState.SKIPPED,
            f"no header reader for {', '.join(opaque[:_NAMED])} "
            f"({len(opaque)} of {plural(len(weights), 'weight file')}): digests only",
            required=False,
        )


def check_duplicates(inventory: Inventory) -> Iterator[Finding]:
    """A tensor name may stand in one shard only."""
    places: dict[str, list[str]] = {}
    for tensor in inventory.duplicates:
        places.setdefault(tensor.name, []).append(tensor.file)
    for name, files in list(places.items())[:_NAMED]:
        yield finding(
            "tensor-duplicate",
            name,
            f"stands in more than one place ({plural(len(places), 'tensor')} in all)",
            expected="one file",
            found=", ".join(files),
            part=Part.WEIGHTS,
        )


def check_inventory(
    inventory: Inventory, manifest: Manifest, *, partial: bool
) -> tuple[list[Finding], list[Coverage]]:
    """The tensors must be those of the manifest: names, dtypes and shapes.

    Args:
        inventory: The tensors of the manifest's weight files.
        manifest: What they must be.
        partial: Whether weight files are missing or malformed, which has findings of its own;
            then only the tensors that are there are compared.
    """
    item = "inventory against the manifest"
    architecture = manifest.architecture
    if architecture is None:
        if not safetensors_paths(entry.path for entry in manifest.files):
            return [], []
        return [], [Coverage(item, CoverageState.SKIPPED, "the manifest states none")]
    if partial:
        detail = f"only {plural(len(inventory), 'tensor')} could be read"
        return _against_manifest(inventory, manifest, partial=True), [
            Coverage(item, CoverageState.UNREAD, detail)
        ]
    if inventory.digest() == architecture.inventory_sha256:
        return [], [
            Coverage(item, CoverageState.CHECKED, f"{plural(len(inventory), 'tensor')}, all equal")
        ]
    findings = [
        finding(
            "inventory-mismatch",
            manifest.name,
            "names, dtypes and shapes are not those of the manifest",
            expected=f"{plural(architecture.tensors, 'tensor')}, "
            f"inventory sha256:{architecture.inventory_sha256}",
            found=f"{plural(len(inventory), 'tensor')}, inventory sha256:{inventory.digest()}",
            part=Part.WEIGHTS,
        )
    ]
    findings += _against_manifest(inventory, manifest, partial=False)
    return findings, [Coverage(item, CoverageState.CHECKED, "differs")]


def _against_manifest(inventory: Inventory, manifest: Manifest, *, partial: bool) -> list[Finding]:
    """The tensors that differ, by name, where the manifest's config has a blueprint."""
    if manifest.architecture is None:
        return []
    try:
        expected = expected_inventory(manifest.architecture.config)
    except InputError:
        return []
    if expected is None:
        return []
    return _tensor_findings(
        "inventory-mismatch", expected, inventory, "the manifest", partial=partial
    )


def check_config(
    evidence: Evidence, inventory: Inventory, *, partial: bool, as_signed: bool
) -> tuple[list[Finding], list[Coverage]]:
    """`config.json` must describe the tensors in the headers.

    The blueprint derives every tensor from the config, so a config of one model over the weights
    of another shows at once, whoever signed either of them.

    Args:
        evidence: What was read of the model.
        inventory: The tensors of its weight files.
        partial: Whether weight files are missing or malformed; then only the tensors that are
            there are compared.
        as_signed: Whether the manifest has no config.json, or this very one; then the signer
            stands for it where r1prov cannot check it.
    """
    item = "config.json against headers"
    found = evidence.json_files.get(CONFIG_NAME)
    if evidence.only_gguf:
        # Runtimes take the model's shape from the GGUF metadata, whatever lies beside it.
        detail = "GGUF files bring their own metadata"
        return [], [Coverage(item, CoverageState.SKIPPED, detail, required=False)]
    if found is None:
        return [], [Coverage(item, CoverageState.SKIPPED, "no config.json", required=not as_signed)]
    if found.error is not None:
        unread = [Coverage(item, CoverageState.UNREAD, found.error.message)]
        if isinstance(found.error, StoreError):
            return [], unread
        return [replace(config_finding(CONFIG_NAME, found.error), part=Part.WEIGHTS)], unread
    config = evidence.config or {}
    try:
        expected = expected_inventory(config)
    except InputError as error:
        one = finding("config-mismatch", CONFIG_NAME, error.message, part=Part.WEIGHTS)
        return [one], [Coverage(item, CoverageState.CHECKED, "differs")]
    if expected is None:
        kind = config.get("model_type")
        detail = f"no blueprint for model_type {kind!r}"
        return [], [Coverage(item, CoverageState.SKIPPED, detail, required=not as_signed)]
    findings = _tensor_findings(
        "config-mismatch", expected, inventory, CONFIG_NAME, partial=partial
    )
    if findings:
        return findings, [Coverage(item, CoverageState.CHECKED, "differs")]
    if partial:
        detail = f"only {plural(len(inventory), 'tensor')} could be read"
        return [], [Coverage(item, CoverageState.UNREAD, detail)]
    detail = f"{plural(len(inventory), 'tensor')}, all as described"
    return [], [Coverage(item, CoverageState.CHECKED, detail)]


def _tensor_findings(
    name: str,
    expected: Iterable[tuple[str, str, tuple[int, ...]]],
    inventory: Inventory,
    source: str,
    *,
    partial: bool = False,
) -> list[Finding]:
    """Findings for the first tensors that are not as `source` says.

    With `partial`, tensors that are not there are no finding.
    """
    wanted = {tensor[0]: (tensor[1], tensor[2]) for tensor in expected}
    wrong: list[tuple[str, str, str]] = []
    for tensor in inventory:
        want = wanted.get(tensor.name)
        have = (tensor.dtype, tensor.shape)
        if want is None:
            wrong.append((tensor.name, "no such tensor", _shown(have)))
        elif want != have:
            wrong.append((tensor.name, _shown(want), _shown(have)))
    present = {tensor.name for tensor in inventory}
    wrong += [
        (tensor, _shown(want), "no such tensor")
        for tensor, want in wanted.items()
        if tensor not in present and not partial
    ]
    return [
        finding(
            name,
            tensor,
            f"not as {source} says ({plural(len(wrong), 'tensor')} in all)",
            expected=want,
            found=have,
            part=Part.WEIGHTS,
        )
        for tensor, want, have in wrong[:_NAMED]
    ]


def _shown(tensor: tuple[str, tuple[int, ...]]) -> str:
    dtype, shape = tensor
    return f"{dtype} [{', '.join(map(str, shape))}]"
