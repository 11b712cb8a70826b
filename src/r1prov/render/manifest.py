"""Manifests as text: one in full, the check of one, and the list of those at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.render.text import finding_lines
from r1prov.text import human_bytes, plural, printable, table

if TYPE_CHECKING:
    from r1prov.manifest.schema import Manifest
    from r1prov.manifest.shelf import Shelf
    from r1prov.verify.manifests import ManifestCheck


def render_list(shelf: Shelf) -> str:
    """One line a manifest."""
    rows: list[tuple[str, ...]] = [("model", "variant", "files", "bytes", "digests", "revision")]
    for item in sorted(shelf, key=lambda one: one.manifest.name.casefold()):
        manifest = item.manifest
        rows.append(
            (
                printable(manifest.name),
                manifest.variant,
                f"{len(manifest.files):,}",
                human_bytes(sum(entry.size or 0 for entry in manifest.files)),
                "all" if manifest.complete else "partial",
                printable(manifest.revision[:12]),
            )
        )
    return table(rows, right=frozenset({2, 3})) + "\n"


def render_manifest(manifest: Manifest) -> str:
    """What a manifest states, with the strength of every figure."""
    total = sum(entry.size or 0 for entry in manifest.files)
    known = sum(entry.sha256 is not None for entry in manifest.files)
    lines = [
        f"{printable(manifest.name)} ({manifest.variant}), {printable(manifest.publisher)}",
        f"  source      {printable(manifest.source)} @ {printable(manifest.revision)}",
        f"  licence     {printable(manifest.license)}",
        f"  files       {plural(len(manifest.files), 'file')}, {human_bytes(total)}; "
        f"SHA-256 known for {known:,}",
    ]
    architecture = manifest.architecture
    if architecture is not None:
        dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in architecture.dtypes.items())
        lines += [
            f"  type        {printable(architecture.model_type)}",
            f"  parameters  {architecture.parameters:,}",
            f"  tensors     {architecture.tensors:,} ({dtypes})",
            f"  inventory   sha256:{architecture.inventory_sha256}",
        ]
    if manifest.complete:
        lines.append(f"  tree        sha256:{manifest.tree_digest()}")
    rows: list[tuple[str, ...]] = [("file", "size", "sha256", "role")]
    rows += [
        (
            printable(entry.path),
            "unknown" if entry.size is None else f"{entry.size:,}",
            entry.sha256 or "unknown",
            entry.role.value,
        )
        for entry in manifest.files
    ]
    lines += ["", table(rows, right=frozenset({1}))]
    if manifest.sources:
        strengths: list[tuple[str, ...]] = [("figure", "strength", "source")]
        strengths += [
            (printable(one.figure), one.strength, printable(one.source)) for one in manifest.sources
        ]
        lines += ["", table(strengths)]
    return "\n".join(lines) + "\n"


def render_check(result: ManifestCheck) -> str:
    """The verdict about a manifest by itself."""
    manifest = result.shelved.manifest
    lines = [
        f"{result.verdict.value.upper()}  manifest of {printable(manifest.name)}",
        "",
        f"  file       {printable(str(result.shelved.path))}",
        f"  sha256     {result.shelved.sha256}",
    ]
    lines += [
        f"  signature  {printable(check.line(whole_id=True), limit=1000)}"
        for check in result.signatures
    ]
    lines += [f"  provenance {printable(line)}" for line in result.provenance]
    if result.findings:
        lines += ["", f"findings ({len(result.findings)})", *finding_lines(list(result.findings))]
    return "\n".join(lines) + "\n"
