"""Hygiene: files that can run code when the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import StoreError
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import Finding, Part, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

PYTHON_CODE = "Python code"


def check_executables(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Pickles, native code and scripts.

    A file that the signed manifest lists was meant by its signer: it is shown, as a warning. One
    that nobody listed is an error.
    """
    listed = {entry.path for entry in manifest.files} if manifest else set()
    code = []
    for path, kind in evidence.executables.items():
        if kind == PYTHON_CODE:
            if path in listed:
                code.append(path)
                continue
            yield finding("code-unlisted", path, "Python code that the manifest does not list")
        else:
            yield finding(
                "executable-file",
                path,
                f"{kind}: can run code when it is loaded",
                expected="data only",
                found=kind,
                severity=Severity.WARNING if path in listed else Severity.ERROR,
            )
    for path in code:
        yield finding("custom-code", path, "Python code of the release", part=Part.OTHER)


def check_auto_map(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """`auto_map` may only name code that the manifest lists.

    Entries are `module.Class`, or `repository--module.Class`, which makes the loader fetch code
    from another repository that nobody verified.
    """
    listed = {entry.path for entry in manifest.files} if manifest else set()
    digests = {entry.path: entry.sha256 for entry in manifest.files} if manifest else {}
    for name, found in evidence.json_files.items():
        if found.value is None:
            if name != CONFIG_NAME and found.error and not isinstance(found.error, StoreError):
                yield finding("config-json", name, found.error.message)
            continue
        signed = found.sha256 is not None and digests.get(name) == found.sha256
        for reference in _references(found.value.get("auto_map")):
            module = reference.rpartition(".")[0]
            path = module.replace(".", "/") + ".py"
            remote = "--" in reference
            if not remote and path in listed:
                continue
            yield finding(
                "auto-map",
                name,
                "auto_map names code of another repository"
                if remote
                else "auto_map names code that the manifest does not list",
                expected="modules of the manifest",
                found=reference,
                severity=Severity.WARNING if signed else Severity.ERROR,
            )


def _references(auto_map: object) -> Iterator[str]:
    """Every reference in an `auto_map`: values are strings, or lists of strings and nulls."""
    if isinstance(auto_map, dict):
        for value in auto_map.values():
            yield from _references(value)
    elif isinstance(auto_map, list):
        for value in auto_map:
            yield from _references(value)
    elif isinstance(auto_map, str):
        yield auto_map
