"""Configs that send a loader elsewhere: to code, to another config, to other weights."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from r1prov.errors import StoreError
from r1prov.manifest.schema import Role
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.errors import R1ProvError
    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

# Modules of the libraries themselves, which are no code of the model.
_LIBRARIES = frozenset(
    {"diffusers", "onnxruntime", "peft", "sentence_transformers", "torch", "transformers"}
)


def check_code_references(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Configs may only name code that the manifest lists, or that libraries bring.

    `auto_map` and `custom_pipelines` of transformers hold `module.Class`, or
    `repository--module.Class`, which makes the loader fetch code from another repository that
    nobody verified. sentence-transformers names the class of each module, diffusers the library
    and class of each component, PEFT the library of an adapter's model.
    """
    listed = {entry.path for entry in manifest.files} if manifest else set()
    for name, found in evidence.json_files.items():
        severity = Severity.WARNING if _as_signed(evidence, manifest, name) else Severity.ERROR
        if found.value is None:
            # What is wrong with config.json itself is said where it is held against the headers.
            if name != CONFIG_NAME and found.error and not isinstance(found.error, StoreError):
                yield config_finding(name, found.error, severity)
            continue
        folder = posixpath.dirname(name)
        for key, reference in _references(posixpath.basename(name).casefold(), found.value):
            remote = "--" in reference
            if not remote and listed.intersection(_files_of(reference, folder, key)):
                continue
            what = (
                "code of another repository" if remote else "code that the manifest does not list"
            )
            yield finding(
                "auto-map",
                name,
                f"`{key}` names {what}",
                expected="modules of the manifest or of the usual libraries",
                found=reference,
                severity=severity,
            )


def check_redirects(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Configs that name the config or the weights to load instead.

    transformers reads the file of `configuration_files` that fits its version in place of
    `config.json`, and the file of `transformers_weights` in place of the usual weights, outside
    the model too: what r1prov looked at is then not what is loaded.
    """
    weights = {
        entry.path
        for entry in (manifest.files if manifest else ())
        if entry.role in (Role.WEIGHTS, Role.INDEX)
    }
    for name, found in evidence.json_files.items():
        if not isinstance(found.value, dict):
            continue
        folder = posixpath.dirname(name)
        signed = _as_signed(evidence, manifest, name)
        others = found.value.get("configuration_files")
        if others:
            files = [posixpath.join(folder, one) for one in _strings(others)]
            if not signed or not all(_as_signed(evidence, manifest, file) for file in files):
                yield finding(
                    "config-redirect",
                    name,
                    "`configuration_files` names configs to read instead, not all as signed",
                    expected="only configs as the manifest has them",
                    found=", ".join(files) or repr(others),
                )
        target = found.value.get("transformers_weights")
        if target is None or (
            isinstance(target, str) and posixpath.join(folder, target) in weights
        ):
            continue
        yield finding(
            "config-redirect",
            name,
            "`transformers_weights` names weights that the manifest does not list",
            expected="a weight file of the manifest",
            found=str(target),
            severity=Severity.WARNING if signed else Severity.ERROR,
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


def _as_signed(evidence: Evidence, manifest: Manifest | None, path: str) -> bool:
    """Whether a config is, to the byte, the one that the manifest lists."""
    found = evidence.json_files.get(path)
    if manifest is None or found is None or found.sha256 is None:
        return False
    return any(e.path == path and e.sha256 == found.sha256 for e in manifest.files)


def _files_of(reference: str, folder: str, key: str) -> set[str]:
    """Where the code of a reference may lie: beside the config, at the top, in its component."""
    module = reference.rpartition(".")[0].replace(".", "/") + ".py"
    return {module, posixpath.join(folder, module), posixpath.join(folder, key, module)}


def _references(file: str, value: object) -> Iterator[tuple[str, str]]:
    """Every name of code in a config, with the key that it stands under."""
    yield from _auto_maps(value)
    foreign: list[tuple[str, object]] = []
    if file == "modules.json" and isinstance(value, list):
        foreign = [("type", one.get("type")) for one in value if isinstance(one, dict)]
    elif file == "model_index.json" and isinstance(value, dict):
        # A component is `[library, class]`; `_class_name` too, if the pipeline is the model's own.
        foreign = [
            (key, f"{item[0]}.{item[1]}")
            for key, item in value.items()
            if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)
        ]
    elif file == "router_config.json" and isinstance(value, dict):
        types = value.get("types")
        foreign = list(types.items()) if isinstance(types, dict) else []
    elif file == "adapter_config.json" and isinstance(value, dict):
        mapping = value.get("auto_mapping")
        if isinstance(mapping, dict) and isinstance(mapping.get("parent_library"), str):
            foreign = [("parent_library", f"{mapping['parent_library']}.*")]
    if isinstance(value, dict):
        function = value.get("activation_function")
        # Of transformers, a word such as `gelu_new`; of sentence-transformers, a class.
        if isinstance(function, str) and "." in function:
            foreign.append(("activation_function", function))
    for key, name in foreign:
        if isinstance(name, str) and name.partition(".")[0] not in _LIBRARIES:
            yield key, name


def _auto_maps(value: object) -> Iterator[tuple[str, str]]:
    """What transformers takes for code, at any depth; the parser caps depth and values."""
    if isinstance(value, list):
        for item in value:
            yield from _auto_maps(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "auto_map":
                yield from ((key, text) for text in _strings(item))
            elif key == "custom_pipelines" and isinstance(item, dict):
                tasks = (task.get("impl") for task in item.values() if isinstance(task, dict))
                yield from ((key, text) for task in tasks for text in _strings(task))
            else:
                yield from _auto_maps(item)


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
