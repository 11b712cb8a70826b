"""The facts and the shipped manifests."""

import hashlib
import json
from pathlib import Path

import pytest

from r1prov.manifest.schema import parse_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def manifests_dir():
    return ROOT / "manifests"


@pytest.fixture(scope="session")
def config(manifests_dir):
    """A published config.json by model name: value and SHA-256."""

    def load(name):
        raw = (manifests_dir / "facts" / "configs" / f"{name}.json").read_bytes()
        return json.loads(raw), hashlib.sha256(raw).hexdigest()

    return load


@pytest.fixture(scope="session")
def shipped(manifests_dir):
    """Every shipped manifest by name."""
    found = [
        parse_manifest(path.read_bytes(), subject=path.name)
        for path in sorted(manifests_dir.glob("*.toml"))
    ]
    return {manifest.name: manifest for manifest in found}
