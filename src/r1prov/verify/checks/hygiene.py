"""Hygiene: files that can run code when the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import StoreError
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import Finding, Part, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.errors import R1ProvError
    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

PYTHON_CODE = "Python code"
# Imports of a pickle that are named.
_NAMED = 5
# What `type` of a module of sentence-transformers may start with and need no code of the model.
_OWN_MODULES = "sentence_transformers."


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


def check_code_references(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Configs may only name code that the manifest lists.

    `auto_map` and `custom_pipelines` of transformers hold `module.Class`, or
    `repository--module.Class`, which makes the loader fetch code from another repository that
    nobody verified. `modules.json` of sentence-transformers holds the class of each module.
    """
    listed = {entry.path for entry in manifest.files} if manifest else set()
    digests = {entry.path: entry.sha256 for entry in manifest.files} if manifest else {}
    for name, found in evidence.json_files.items():
        signed = found.sha256 is not None and digests.get(name) == found.sha256
        severity = Severity.WARNING if signed else Severity.ERROR
        if found.value is None:
            # What is wrong with config.json itself is said where it is held against the headers.
            if name != CONFIG_NAME and found.error and not isinstance(found.error, StoreError):
                yield config_finding(name, found.error, severity)
            continue
        for key, reference in _references(found.value):
            module = reference.rpartition(".")[0]
            path = module.replace(".", "/") + ".py"
            remote = "--" in reference
            if not remote and path in listed:
                continue
            what = (
                "code of another repository" if remote else "code that the manifest does not list"
            )
            yield finding(
                "auto-map",
                name,
                f"`{key}` names {what}",
                expected="modules of the manifest",
                found=reference,
                severity=severity,
            )


def config_finding(name: str, error: R1ProvError, severity: Severity | None = None) -> Finding:
    """The finding that says why a config is not strict JSON, or cannot be read as such."""
    return finding(
        "config-json",
        name,
        error.message,
        expected=getattr(error, "expected", None) or "strict JSON within the caps",
        found=getattr(error, "found", None),
        hint=error.hint,
        severity=severity,
    )


def _references(value: object) -> Iterator[tuple[str, str]]:
    """Every name of code in a config, at any depth, with the key that it stands under.

    The parser caps depth and number of values, so recursion is bounded.
    """
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "auto_map":
            yield from ((key, text) for text in _strings(item))
        elif key == "custom_pipelines" and isinstance(item, dict):
            tasks = (task.get("impl") for task in item.values() if isinstance(task, dict))
            yield from ((key, text) for task in tasks for text in _strings(task))
        elif key == "type" and isinstance(item, str) and "path" in value:
            if not item.startswith(_OWN_MODULES):
                yield key, item
        else:
            yield from _references(item)


def _strings(value: object) -> Iterator[str]:
    """The strings of a value: `auto_map` holds strings, or lists of strings and nulls."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
