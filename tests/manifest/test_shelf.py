"""The shelf: shipped manifests are parsed once for their bytes, and never taken for others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1prov.errors import ManifestError
from r1prov.manifest import shelf
from r1prov.manifest.schema import parse_manifest
from r1prov.trust.shipped import shipped_dir

MINILM = "all-MiniLM-L6-v2.toml"


def test_shipped_manifests_are_what_their_bytes_say() -> None:
    for _ in range(2):
        items = shelf.load_shelf([shipped_dir("manifests")])
        assert len(items.manifests()) > 8
        for item in items:
            assert item.raw == item.path.read_bytes()
            assert item.manifest == parse_manifest(item.raw, subject=str(item.path))


def test_a_manifest_that_changes_is_parsed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "shipped_dir", lambda _: tmp_path)
    file = Path(shutil.copy(shipped_dir("manifests") / MINILM, tmp_path))
    before = shelf.load_manifest(file)
    assert shelf.load_manifest(file).manifest is before.manifest
    file.write_bytes(before.raw.replace(b'license = "Apache-2.0"', b'license = "MIT"'))
    after = shelf.load_manifest(file)
    assert (before.manifest.license, after.manifest.license) == ("Apache-2.0", "MIT")
    assert before.sha256 != after.sha256
    file.write_bytes(b"schema = ")
    for _ in range(2):
        with pytest.raises(ManifestError) as caught:
            shelf.load_manifest(file)
        assert caught.value.subject == str(file)


def test_what_others_wrote_is_not_kept(tmp_path: Path) -> None:
    file = Path(shutil.copy(shipped_dir("manifests") / MINILM, tmp_path))
    first, second = shelf.load_manifest(file), shelf.load_manifest(file)
    assert first == second
    assert first.manifest is not second.manifest
