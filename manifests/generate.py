#!/usr/bin/env python3
"""Write the reference manifests from the facts in `facts/`.

    python manifests/generate.py [--sign-with KEY.pem] [--output DIRECTORY]

What can be derived is derived: shard names, sizes and the inventory come from `config.json` by the
blueprint and are not copied from anywhere. The digests of the facts are held against what was
derived wherever both are known, and a difference ends the run.

    facts/releases.json   one object a release: identity, digests, sources with their strength
    facts/configs/        config.json of each release, as published
    facts/hub-commits/    Git commits of the Hub with every tree entry
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from r1prov.family.skeleton import Layout, plan_layout
from r1prov.manifest.architecture import describe_architecture
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.hub_commit import HubCommit, parse_hub_commit_json
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import FileEntry, Manifest, Source, parse_manifest

HERE = Path(__file__).resolve().parent
FACTS = HERE / "facts"
INDEX = "model.safetensors.index.json"


class FactError(Exception):
    """Two facts, or a fact and a derivation, disagree."""


def load_releases() -> list[dict[str, Any]]:
    """The releases of `facts/releases.json`."""
    value = json.loads((FACTS / "releases.json").read_bytes())
    releases: list[dict[str, Any]] = value["releases"]
    return releases


def build(release: dict[str, Any]) -> Manifest:
    """The manifest of one release."""
    name = release["name"]
    config_bytes = (FACTS / "configs" / release.get("config", f"{name}.json")).read_bytes()
    config = json.loads(config_bytes)
    layout = plan_layout(config)
    commit = None
    if release.get("from_commit"):
        raw = (FACTS / "hub-commits" / f"{name}.json").read_bytes()
        commit = parse_hub_commit_json(raw, subject=name)
        if commit.commit != release["revision"]:
            raise FactError(f"{name}: the commit is not the revision")
        listed = dict(_commit_files(commit, release.get("extra", {})))
    else:
        listed = dict(_listed_files(release, layout))
    _check_weights(name, listed, layout)
    _check_content(name, listed, "config.json", config_bytes)
    if layout.index is not None and release["variant"] != "base":
        _check_content(name, listed, INDEX, layout.index)
    released = release.get("released")
    return Manifest(
        name=name,
        publisher=release["publisher"],
        variant=release["variant"],
        base_model=release.get("base_model"),
        source=release["source"],
        revision=release["revision"],
        license=release["license"],
        released=date.fromisoformat(released) if released else None,
        complete_listing=release["complete_listing"],
        untracked_dirs=tuple(release.get("untracked_dirs", ())),
        same_headers_as=tuple(release.get("same_headers_as", ())),
        architecture=describe_architecture(layout.inventory(), config),
        files=tuple(
            FileEntry(path, size, sha256, role_of(path))
            for path, (size, sha256) in sorted(listed.items())
        ),
        sources=tuple(Source(**source) for source in release["sources"]),
        hub_commit=commit,
    )


_Known = tuple[int | None, str | None]


def _commit_files(commit: HubCommit, extra: dict[str, Any]) -> Iterator[tuple[str, _Known]]:
    """The files of a commit's tree; the content of its directories is not known."""
    for entry in commit.entries:
        if entry.mode in ("040000", "40000"):
            continue
        more = extra.get(entry.name, {})
        size = entry.size if entry.size is not None else more.get("size")
        yield entry.name, (size, entry.sha256 or more.get("sha256"))


def _listed_files(release: dict[str, Any], layout: Layout) -> Iterator[tuple[str, _Known]]:
    shards = release.get("shards", {})
    sizes = release.get("weights_sizes", {})
    for shard in layout.shards:
        yield shard.name, (sizes.get(shard.name, shard.size), shards.get(shard.name))
    for file in release["files"]:
        yield file["path"], (file.get("size"), file.get("sha256"))


def _check_weights(name: str, listed: dict[str, _Known], layout: Layout) -> None:
    weights = {path: known for path, known in listed.items() if path.endswith(".safetensors")}
    if weights.keys() != {shard.name for shard in layout.shards}:
        raise FactError(f"{name}: other weight files than derived")
    if name.startswith("all-MiniLM"):
        return  # not written by DeepSeek's writer: its header is laid out otherwise
    for shard in layout.shards:
        if weights[shard.name][0] != shard.size:
            raise FactError(f"{name}: {shard.name} has another size than derived")


def _check_content(name: str, listed: dict[str, _Known], path: str, content: bytes) -> None:
    size, sha256 = listed[path]
    if size not in (None, len(content)):
        raise FactError(f"{name}: {path} has another size than the fact says")
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise FactError(f"{name}: {path} has another digest than the fact says")


def sign(path: Path, raw: bytes, key_file: Path) -> None:
    """Write the signature bundle beside a manifest, unless there is one of these bytes."""
    from r1prov.manifest.shelf import BUNDLE_SUFFIX
    from r1prov.trust.bundle import parse_bundle, sign_message
    from r1prov.trust.keys import parse_private_key

    key = parse_private_key(key_file.read_bytes(), None, subject=str(key_file))
    target = path.with_name(f"{path.name}.{key.public.key_id8}{BUNDLE_SUFFIX}")
    if target.exists():
        bundle = parse_bundle(target.read_bytes(), subject=target.name)
        if key.public.verify(bundle.signature, raw):
            return
    target.write_bytes(sign_message(key, raw).to_json())


def main(arguments: list[str]) -> int:
    """Write every manifest, and sign it if a key is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sign-with", type=Path, metavar="KEY.pem")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    for release in load_releases():
        manifest = build(release)
        raw = emit_manifest(manifest)
        if parse_manifest(raw, subject=manifest.name) != manifest:
            raise FactError(f"{manifest.name}: not read back as it was written")
        path = options.output / f"{manifest.name}.toml"
        path.write_bytes(raw)
        if options.sign_with:
            sign(path, raw, options.sign_with)
        state = "complete" if manifest.complete else "partial"
        print(f"{path.name}: {len(manifest.files)} files, {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
