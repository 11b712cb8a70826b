"""A manifest as TOML: the same manifest is always the same bytes.

A writer of our own, because signatures are over these bytes: no library's taste in layout may
change them from one version to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date

from r1prov.manifest.hub_commit import HubCommit
from r1prov.manifest.schema import (
    SCHEMA_PREFIX,
    SCHEMA_VERSION,
    Architecture,
    FileEntry,
    Manifest,
    TensorSidecar,
)
from r1prov.text import is_unsafe

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHORT_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}


def emit_manifest(manifest: Manifest) -> bytes:
    """The TOML of a manifest; `parse_manifest` gives it back unchanged."""
    lines = [_line("schema", f"{SCHEMA_PREFIX}{SCHEMA_VERSION}"), "", "[model]"]
    lines += _lines(
        {
            "name": manifest.name,
            "publisher": manifest.publisher,
            "variant": manifest.variant,
            "base_model": manifest.base_model,
            "source": manifest.source,
            "revision": manifest.revision,
            "license": manifest.license,
            "released": manifest.released,
            "complete_listing": manifest.complete_listing,
            "untracked_dirs": list(manifest.untracked_dirs) or None,
        }
    )
    if manifest.same_headers_as:
        lines += _array("same_headers_as", map(_value, manifest.same_headers_as))
    if manifest.architecture is not None:
        lines += _architecture(manifest.architecture)
    if manifest.tensors is not None:
        lines += ["", "[tensors]", *_lines(_tensors(manifest.tensors))]
    for entry in manifest.files:
        lines += ["", "[[files]]", *_lines(_file(entry))]
    for source in manifest.sources:
        lines += ["", "[[provenance.sources]]"]
        lines += _lines(
            {"figure": source.figure, "source": source.source, "strength": source.strength}
        )
    if manifest.hub_commit is not None:
        lines += _hub_commit(manifest.hub_commit)
    return ("\n".join(lines) + "\n").encode()


def _file(entry: FileEntry) -> dict[str, object]:
    return {
        "path": entry.path,
        "size": entry.size,
        "sha256": entry.sha256,
        "role": entry.role.value,
    }


def _tensors(sidecar: TensorSidecar) -> dict[str, object]:
    return {
        "path": sidecar.path,
        "size": sidecar.size,
        "sha256": sidecar.sha256,
        "count": sidecar.count,
    }


def _architecture(architecture: Architecture) -> list[str]:
    lines = ["", "[architecture]"]
    lines += _lines(
        {
            "model_type": architecture.model_type,
            "parameters": architecture.parameters,
            "tensors": architecture.tensors,
            "dtypes": dict(sorted(architecture.dtypes.items())),
            "inventory_sha256": architecture.inventory_sha256,
            "layers": architecture.layers,
            "hidden_size": architecture.hidden_size,
            "vocabulary": architecture.vocabulary,
            "experts": architecture.experts,
            "attention_heads": architecture.attention_heads,
        }
    )
    if architecture.config:
        lines += ["", "[architecture.config]", *_lines(dict(sorted(architecture.config.items())))]
    return lines


def _hub_commit(commit: HubCommit) -> list[str]:
    lines = ["", "[provenance.hub_commit]"]
    lines += _lines(
        {
            "repo": commit.repo,
            "commit": commit.commit,
            "tree": commit.tree,
            "parents": list(commit.parents),
            "author": commit.author,
            "committer": commit.committer,
        }
    )
    lines.append(f"message = {_long_string(commit.message)}")
    if commit.signature is not None:
        lines.append(f"signature = {_long_string(commit.signature)}")
    entries = (
        {
            "mode": entry.mode,
            "name": entry.name,
            "git_sha1": entry.git_sha1,
            "size": entry.size,
            "sha256": entry.sha256,
            "lfs": entry.lfs or None,
        }
        for entry in commit.entries
    )
    return lines + _array("entries", map(_value, entries))


def _lines(values: Mapping[str, object]) -> list[str]:
    return [_line(key, value) for key, value in values.items() if value is not None]


def _line(key: str, value: object) -> str:
    return f"{_key(key)} = {_value(value)}"


def _array(key: str, items: Iterable[str]) -> list[str]:
    return [f"{_key(key)} = [", *(f"  {item}," for item in items), "]"]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        # TOML reads `1e-06` and `1e+16` as Python writes them.
        return repr(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(_line(key, item) for key, item in value.items() if item is not None)
        return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"no TOML form for {type(value).__name__}")


def _string(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _long_string(text: str) -> str:
    """Text of several lines on several lines; the line break after the quotes is no part of it."""
    if "\n" not in text:
        return _string(text)
    body = "".join(c if c == "\n" else _escaped(c) for c in text)
    return f'"""\n{body}"""'


def _escaped(character: str) -> str:
    short = _SHORT_ESCAPES.get(character)
    if short is not None:
        return short
    # Bidirectional and invisible characters too: what a reviewer sees is what is there.
    if not is_unsafe(character):
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
