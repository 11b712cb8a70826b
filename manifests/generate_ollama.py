#!/usr/bin/env python3
"""Write `ollama/tags.toml`, what the tags of the Ollama library hold, from `facts/ollama.json`.

    python manifests/generate_ollama.py [--sign-with KEY.pem] [--output DIRECTORY]

Of a build whose layers are all known, config and Ollama manifest are rebuilt byte for byte from
digests and sizes. If the SHA-256 of the rebuilt manifest is not the published one, the run ends: so
a published manifest digest proves every digest and size below it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from r1prov.formats.ollama_manifest import LAYER_PREFIX, parse_ollama_manifest
from r1prov.manifest.ollama_tags import SCHEMA, parse_ollama_tags

HERE = Path(__file__).resolve().parent
FACTS = HERE / "facts" / "ollama.json"


class FactError(Exception):
    """Two facts, or a fact and what was rebuilt from it, disagree."""


def rebuild(build: dict[str, Any], blobs: dict[str, Any]) -> tuple[bytes, bytes]:
    """The config blob and the manifest of a build, as Ollama's registry serves them.

    Go's `json.Encoder` ends the config with a line feed; the manifest has none.
    """
    config = {
        "model_format": "gguf",
        "model_family": build["family"],
        "model_families": [build["family"]],
        "model_type": build["parameters"],
        "file_type": build["quantization"],
        "architecture": "amd64",
        "os": "linux",
        # Builds that were re-issued with another template kept their config.
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{blobs[key]['sha256']}" for key in build["config_layers"]],
        },
    }
    config_bytes = _compact(config) + b"\n"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{hashlib.sha256(config_bytes).hexdigest()}",
            "size": len(config_bytes),
        },
        "layers": [
            {
                "mediaType": LAYER_PREFIX + blobs[key]["media"],
                "digest": f"sha256:{blobs[key]['sha256']}",
                "size": blobs[key]["size"],
            }
            for key in build["layers"]
        ],
    }
    return config_bytes, _compact(manifest)


def render(facts: dict[str, Any]) -> bytes:
    """The TOML of the facts, checked."""
    lines = [f"schema = {_string(SCHEMA)}"]
    for build in facts["builds"]:
        lines += _build(build, facts["blobs"])
    for tag in facts["tags"]:
        lines += ["", "[[tags]]", f"name = {_string(tag['name'])}"]
        for step in tag["history"]:
            lines += ["", "[[tags.history]]", *_lines(step, "build", "since", "source", "strength")]
    for wrong in facts["mislabelled"]:
        lines += ["", "[[mislabelled]]", *_lines(wrong, "sha256", "called", "truth", "source")]
    raw = ("\n".join(lines) + "\n").encode()
    parse_ollama_tags(raw, subject="ollama/tags.toml")
    return raw


def _build(build: dict[str, Any], blobs: dict[str, Any]) -> list[str]:
    complete = build["config_layers"] is not None
    lines = ["", "[[builds]]"]
    lines += _lines(build, "id", "model", "variant", "family", "parameters", "quantization")
    lines += _lines(build, "manifest_sha256", "total_size")
    lines.append(f"complete = {'true' if complete else 'false'}")
    for path, sha256, size in _layers(build, blobs):
        layer = {"path": path, "sha256": sha256, "size": size}
        lines += ["", "[[builds.layers]]", *_lines(layer, "path", "sha256", "size")]
    for source in build["sources"]:
        lines += ["", "[[builds.sources]]", *_lines(source, "figure", "source", "strength")]
    return lines


def _layers(build: dict[str, Any], blobs: dict[str, Any]) -> list[tuple[str, str, int | None]]:
    if build["config_layers"] is None:
        (key,) = build["layers"]
        return [("model.gguf", blobs[key]["sha256"], blobs[key]["size"])]
    _, manifest = rebuild(build, blobs)
    found = hashlib.sha256(manifest).hexdigest()
    if found != build["manifest_sha256"]:
        raise FactError(f"{build['id']}: the rebuilt manifest is {found}, another than published")
    parsed = parse_ollama_manifest(manifest, subject=build["id"])
    return [(layer.path, layer.sha256, layer.size) for layer in parsed.layers]


def _lines(values: dict[str, Any], *keys: str) -> list[str]:
    return [
        f"{key} = {_string(values[key]) if isinstance(values[key], str) else values[key]}"
        for key in keys
        if values.get(key) is not None
    ]


def _string(text: str) -> str:
    # For printable text a JSON string is a TOML basic string; the parser refuses any other text.
    return json.dumps(text, ensure_ascii=False)


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", HERE / "generate.py")
    if spec is None or spec.loader is None:
        raise FactError("generate.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str]) -> int:
    """Write the table, and sign it if a key is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sign-with", type=Path, metavar="KEY.pem")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    facts = json.loads(FACTS.read_bytes())
    raw = render(facts)
    path = options.output / "ollama" / "tags.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(raw)
    if options.sign_with:
        _generator().sign(path, raw, options.sign_with)
    print(f"ollama/{path.name}: {len(facts['builds'])} builds, {len(facts['tags'])} tags")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
