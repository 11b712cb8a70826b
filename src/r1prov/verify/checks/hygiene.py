"""Hygiene: files that can run code when the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.verify.findings import Finding, Part, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

PYTHON_CODE = "Python code"
# Imports of a pickle that are named.
_NAMED = 5


def check_executables(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Pickles, native code and scripts.

    A file that the signed manifest lists was meant by its signer: it is shown, as a warning; that
    it is still what was signed, its size and digest say, in either scope. One that nobody listed
    is an error.
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
            imports = evidence.imports.get(path)
            named = f" that imports {', '.join(imports[:_NAMED])}" if imports else ""
            yield finding(
                "executable-file",
                path,
                f"{kind}: can run code when it is loaded",
                expected="data only",
                found=kind + named,
                severity=Severity.WARNING if path in listed else Severity.ERROR,
            )
    for path in code:
        yield finding("custom-code", path, "Python code of the release", part=Part.OTHER)
