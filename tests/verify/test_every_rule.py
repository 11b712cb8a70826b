"""Every rule of the table is produced by a model that breaks it, and by no sound model.

A case takes a signed, sharded model that passes, breaks one thing and verifies again.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tsa_server import Tsa, stamping

from r1prov.cli.app import run
from r1prov.errors import Unreadable
from r1prov.family.gguf_skeleton import plan_gguf, write_gguf_skeleton
from r1prov.family.skeleton import write_skeleton
from r1prov.hashing.digest import git_blob_id
from r1prov.limits import MAX_STORE_DEPTH, MAX_TENSORS_PER_FILE
from r1prov.manifest.hub_commit import HubCommit, TreeEntry
from r1prov.stores.local import LocalStore
from r1prov.verify.findings import Verdict
from r1prov.verify.policy import Level
from r1prov.verify.rules import RULES, Severity

TINY_CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 256,
}
VECTORS = Path(__file__).parents[1] / "vectors" / "safetensors"
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"
CASES: dict[str, tuple[Callable[..., None], Verdict | None]] = {}


def breaks(rule, verdict=Verdict.FAIL):
    def add(function):
        CASES[rule] = (function, verdict)
        return function

    return add


@breaks("file-missing")
def _(case):
    (case.model / FIRST).unlink()


@breaks("file-unlisted")
def _(case):
    (case.model / "notes.xyz").write_text("x")


@breaks("file-size")
def _(case):
    with (case.model / "tokenizer_config.json").open("a") as file:
        file.write(" ")


@breaks("file-digest")
def _(case):
    with (case.model / SECOND).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")


class WritesWhileRead(LocalStore):
    def open(self, path):
        if path == SECOND:
            file = Path(self.location) / path
            before = file.stat()
            with file.open("r+b") as stream:
                stream.seek(-1, os.SEEK_END)
                stream.write(b"\0")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))
        return super().open(path)


@breaks("file-changed")
def _(case):
    case.store_class = WritesWhileRead


class Refuses(LocalStore):
    def open(self, path):
        if path == SECOND:
            raise Unreadable("input/output error", subject=path)
        return super().open(path)


@breaks("file-unread", Verdict.INCOMPLETE)
def _(case):
    case.store_class = Refuses


@breaks("file-name")
def _(case):
    (case.model / "a\\b.json").write_text("{}")


@breaks("name-collision")
def _(case):
    (case.model / "CONFIG.json").write_text("{}")


class GrowsWhileRead(LocalStore):
    def open(self, path):
        (Path(self.location) / "late.md").write_text("x")
        return super().open(path)


@breaks("listing-changed")
def _(case):
    case.store_class = GrowsWhileRead


@breaks("not-covered", Verdict.INCOMPLETE)
def _(case):
    case.restate(lambda manifest: replace(manifest, complete_listing=False))
    (case.model / "generation_config.json").write_text("{}")


@breaks("leftover", Verdict.PASS)
def _(case):
    (case.model / ".git").mkdir()
    (case.model / ".git" / "HEAD").write_text("ref: refs/heads/main\n")


@breaks("limit", Verdict.INCOMPLETE)
def _(case):
    deep = case.model.joinpath(*["d"] * (MAX_STORE_DEPTH + 1))
    deep.mkdir(parents=True)


class Mounted(LocalStore):
    """Mounting needs privileges that tests have not."""

    def __init__(self, path):
        super().__init__(path)
        self._device += 1


@breaks("crosses-device", Verdict.PASS)
def _(case):
    case.store_class = Mounted


@breaks("index-json")
def _(case):
    (case.model / INDEX).write_text("{")


@breaks("index-duplicate")
def _(case):
    twice = f'"a": "{FIRST}", "a": "{FIRST}"'
    (case.model / INDEX).write_text(f'{{"metadata": {{}}, "weight_map": {{{twice}}}}}')


@breaks("index-path")
def _(case):
    case.index(lambda index: index["weight_map"].update(a="../x.safetensors"))


@breaks("index-entry")
def _(case):
    case.index(lambda index: index["weight_map"].update(a=1))


@breaks("index-mismatch")
def _(case):
    case.index(lambda index: index["weight_map"].pop("lm_head.weight"))


@breaks("index-total-size")
def _(case):
    case.index(lambda index: index["metadata"].update(total_size=1))


@breaks("tensor-duplicate")
def _(case):
    shutil.copy(case.model / FIRST, case.model / SECOND)


@breaks("index-missing")
def _(case):
    (case.model / INDEX).unlink()


@breaks("config-json")
def _(case):
    (case.model / "config.json").write_text("{,}")


@breaks("signature-missing")
def _(case):
    for bundle in case.folder.glob("m.toml.*"):
        bundle.unlink()


@breaks("signature-invalid")
def _(case):
    case.manifest.write_bytes(case.manifest.read_bytes() + b"\n")


@breaks("signer-unknown")
def _(case):
    other = case.folder / "other"
    assert run(["key", "generate", "o.pem", "--no-passphrase"]) == 0
    add = ["key", "add", "o.pem.pub", "--owner", "o", "--model", "m", "--keys", str(other)]
    assert run(add) == 0
    case.keys = other


@breaks("signer-expired")
def _(case):
    case.trust("valid_from = ", "valid_from = 2025-01-01T00:00:00Z #")
    case.trust("valid_until = ", "valid_until = 2026-01-01T00:00:00Z #")


@breaks("signer-not-yet-valid")
def _(case):
    case.trust("valid_from = ", "valid_from = 2998-01-01T00:00:00Z #")
    case.trust("valid_until = ", "valid_until = 2999-01-01T00:00:00Z #")


@breaks("signer-revoked")
def _(case):
    (line,) = [x for x in (case.keys / "trust.toml").read_text().splitlines() if x[:5] == "id = "]
    assert run(["key", "revoke", line[6:14], "--reason", "lost", "--keys", "keys"]) == 0


@breaks("signer-out-of-scope")
def _(case):
    case.trust('models = ["m"]', 'models = ["other"]')


@breaks("signature-threshold")
def _(case):
    path = case.keys / "trust.toml"
    path.write_text(path.read_text() + '\n[[thresholds]]\nmodels = ["m"]\nsignatures = 2\n')


@breaks("certificate-revoked")
def _(case):
    root, leaf = case.certify()
    assert case.verify().verdict is Verdict.PASS
    gone = ["key", "revoke", leaf.certificate.fingerprint, "--reason", "left the team"]
    gone += ["--authority", root.certificate.fingerprint[:8], "--keys", str(case.keys)]
    assert run(gone) == 0


@breaks("certificate-not-yet-valid")
def _(case):
    case.certify(days=(10, 20))


@breaks("timestamp-invalid")
def _(case):
    case.certify(lambda signature: (b"0",), days=(-20, -10))


@breaks("timestamp-untrusted")
def _(case):
    folder = case.folder / "tsa"
    folder.mkdir()
    root = case.authority.root("time root")
    tsa = Tsa(folder, root, case.authority.issue("clock", root, **stamping()))
    case.certify(lambda signature: (tsa.stamp(signature),), days=(-20, -10))


@breaks("no-manifest", Verdict.INCOMPLETE)
def _(case):
    case.name = None


@breaks("model-not-expected")
def _(case):
    case.expect = "full"


@breaks("name-claim")
def _(case):
    case.model = case.model.rename(case.folder / "DeepSeek-R1")


@breaks("inventory-mismatch")
def _(case):
    wider = json.dumps(TINY_CONFIG | {"intermediate_size": 192}).encode()
    write_skeleton(wider, case.model, stages=(1,))


@breaks("config-mismatch")
def _(case):
    (case.model / "config.json").write_text(json.dumps(TINY_CONFIG | {"intermediate_size": 192}))


@breaks("no-weights")
def _(case):
    for name in (FIRST, SECOND, INDEX):
        (case.model / name).unlink()


@breaks("executable-file")
def _(case):
    (case.model / "pytorch_model.bin").write_bytes(b"x")


@breaks("code-unlisted")
def _(case):
    (case.model / "modeling.py").write_text("pass\n")


@breaks("custom-code", Verdict.PASS)
def _(case):
    (case.model / "modeling.py").write_text("pass\n")
    case.create()


@breaks("symlink")
def _(case):
    (case.model / "link").symlink_to("/etc/hostname")


@breaks("not-regular")
def _(case):
    os.mkfifo(case.model / "pipe")


@breaks("auto-map")
def _(case):
    config = TINY_CONFIG | {"auto_map": {"AutoModel": "modeling.Model"}}
    (case.model / "config.json").write_text(json.dumps(config))


@breaks("shadowing-file")
def _(case):
    (case.model / "adapter_config.json").write_text("{}")


def commit_of(case, **changes):
    """An unsigned Hub commit of the model, its shards under Git LFS; `changes` by file name."""
    entries = []
    for path in sorted(case.model.iterdir()):
        raw = path.read_bytes()
        lfs = path.suffix == ".safetensors"
        stated = (hashlib.sha256(raw).hexdigest(), len(raw))
        digest, size = changes.get(path.name, stated)
        body = raw
        if lfs:
            body = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
                digest.encode(),
                size,
            )
        elif path.name in changes:
            body = digest
        blob = git_blob_id(body)
        if lfs:
            entries.append(TreeEntry("100644", path.name, blob, size, digest, lfs=True))
        else:
            entries.append(TreeEntry("100644", path.name, blob))
    tree_body = b"".join(
        b"100644 %s\0" % one.name.encode() + bytes.fromhex(one.git_sha1) for one in entries
    )
    tree = hashlib.sha1(b"tree %d\0" % len(tree_body) + tree_body).hexdigest()
    who = "Me <me@example.org> 1700000000 +0000"
    body = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nadd\n".encode()
    commit = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()
    return HubCommit("me/m", commit, tree, (), who, who, "add\n", None, tuple(entries))


def with_commit(case, revision=None, **changes):
    commit = commit_of(case, **changes)
    case.restate(
        lambda manifest: replace(
            manifest, hub_commit=commit, revision=revision or commit.commit, source="hub"
        )
    )


def test_a_commit_that_binds_the_files_holds(case):
    with_commit(case)
    report = case.verify()
    assert report.verdict is Verdict.PASS
    assert any("Git LFS" in line for line in report.provenance)


@breaks("commit-proof")
def _(case):
    with_commit(case, **{FIRST: ("0" * 64, (case.model / FIRST).stat().st_size)})


@breaks("git-blob")
def _(case):
    with_commit(case, **{"config.json": (b"another config", None)})


@pytest.mark.parametrize(
    ("what", "subject"),
    [
        ("size", FIRST),
        ("revision", None),
        ("weights outside LFS", FIRST),
        ("not listed", FIRST),
        ("not in the tree", "tokenizer_config.json"),
    ],
)
def test_manifest_and_commit_must_agree(case, what, subject):
    size = (case.model / FIRST).stat().st_size
    digest = hashlib.sha256((case.model / FIRST).read_bytes()).hexdigest()
    if what == "size":
        with_commit(case, **{FIRST: (digest, size + 1)})
    elif what == "revision":
        with_commit(case, revision="0" * 40)
    elif what == "weights outside LFS":
        (case.model / FIRST).rename(case.folder / "aside")
        (case.model / FIRST.replace(".safetensors", ".x")).write_bytes(b"")
        commit = commit_of(case)
        (case.model / FIRST.replace(".safetensors", ".x")).unlink()
        (case.folder / "aside").rename(case.model / FIRST)
        case.restate(lambda m: replace(m, hub_commit=commit, revision=commit.commit))
    elif what == "not listed":
        with_commit(case)
        case.restate(lambda m: replace(m, files=tuple(f for f in m.files if f.path != FIRST)))
    else:
        (case.model / "tokenizer_config.json").rename(case.folder / "aside")
        commit = commit_of(case)
        (case.folder / "aside").rename(case.model / "tokenizer_config.json")
        case.restate(lambda m: replace(m, hub_commit=commit, revision=commit.commit))
    report = case.verify()
    subjects = {one.subject for one in report.findings if one.rule.name == "commit-proof"}
    assert (subject or "") in subjects or (what == "revision" and subjects)
    assert report.verdict is Verdict.FAIL


def _vectors():
    for path in sorted(VECTORS.glob("*.vec")):
        heading, raw = path.read_bytes().split(b"\n\n", 1)
        expect = heading.decode().split("\n")[0].removeprefix("expect: ")
        if expect != "ok":
            yield expect.split()[-1], expect.startswith("ok"), raw


for _rule, _warns, _raw in _vectors():

    def _put(case, raw=_raw):
        case.level = Level.STRUCTURE
        (case.model / SECOND).write_bytes(raw)

    CASES.setdefault(_rule, (_put, None))


def _gguf_module():
    """The attacks of the reader's own tests."""
    path = Path(__file__).parents[1] / "formats" / "test_gguf.py"
    spec = importlib.util.spec_from_file_location("gguf_attacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GGUF = _gguf_module()
for _raw, _rule in GGUF.ATTACKS.values():

    def _put_gguf(case, raw=_raw):
        case.level = Level.STRUCTURE
        (case.model / "m.gguf").write_bytes(raw)

    CASES.setdefault(_rule, (_put_gguf, None))


@breaks("gguf-semantics")
def _(case):
    blocks = GGUF.u32("llama.block_count", 10**6)
    (case.model / "m.gguf").write_bytes(GGUF.build([GGUF.ARCH, blocks]))


@breaks("template-suspicious")
def _(case):
    template = GGUF.string("tokenizer.chat_template", "{{ ''.__class__.__mro__ }}")
    (case.model / "m.gguf").write_bytes(GGUF.build([GGUF.ARCH, template]))


@breaks("gguf-split")
def _(case):
    """Two parts of three: verified by itself, a GGUF model has no other weights beside it."""
    for path in case.model.glob("model*"):
        path.unlink()
    config = TINY_CONFIG | {"rms_norm_eps": 1e-6, "rope_theta": 10000.0}
    plans = plan_gguf(config, name="m", parts=3)
    write_gguf_skeleton(plans[:2], case.model)


def _with_tensors(case):
    case.by = "tensor"
    for file in (case.manifest, case.manifest.with_suffix(".tensors")):
        file.unlink(missing_ok=True)
    create = ["manifest", "create", str(case.model), "--name", "m", "-o", "m.toml", "--tensors"]
    assert run(create) == 0
    case.sign()


def _whole(case, change):
    """Change the tensors of a model in one file, of F32 so that numpy reads them."""
    import numpy as np
    from safetensors.numpy import save_file

    for path in case.model.glob("model*"):
        path.unlink()
    (case.model / "config.json").unlink()
    tensors = {name: np.arange(8, dtype=np.float32) + n for n, name in enumerate("abc")}
    save_file(tensors, case.model / "model.safetensors")
    _with_tensors(case)
    change(tensors)
    save_file(tensors, case.model / "model.safetensors")


@breaks("tensor-digest")
def _(case):
    _whole(case, lambda tensors: tensors["a"].fill(9))


@breaks("tensor-missing")
def _(case):
    _whole(case, lambda tensors: tensors.pop("a"))


@breaks("tensor-unlisted")
def _(case):
    _whole(case, lambda tensors: tensors.update(d=tensors["a"] * 3))


@breaks("tensor-shape")
def _(case):
    _whole(case, lambda tensors: tensors.update(a=tensors["a"].reshape(2, 4)))


@breaks("tensor-renamed")
def _(case):
    _whole(case, lambda tensors: tensors.update(z=tensors.pop("a")))


@breaks("config-redirect")
def _(case):
    config = TINY_CONFIG | {"transformers_weights": "/tmp/other.safetensors"}
    (case.model / "config.json").write_text(json.dumps(config))


@breaks("stated-digest")
def _(case):
    """Changed after `hf download --local-dir`, and signed by nobody."""
    folder = case.model / ".cache" / "huggingface" / "download"
    folder.mkdir(parents=True)
    etag = hashlib.sha256(b"what was downloaded").hexdigest()
    (folder / f"{SECOND}.metadata").write_text(f"{'0' * 40}\n{etag}\n1700000000.0\n")
    with (case.model / SECOND).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")


@breaks("policy-model")
def _(case):
    case.demand("", name="other")


@breaks("policy-manifest")
def _(case):
    case.demand(f'manifest_sha256 = "{"0" * 64}"')


@breaks("policy-signers")
def _(case):
    case.demand("threshold = 2")


@breaks("policy-level")
def _(case):
    case.level = Level.STRUCTURE
    case.demand('min_level = "full"')


@breaks("policy-variant")
def _(case):
    case.demand('variant = "distill"')


@breaks("policy-commit")
def _(case):
    case.demand('commit_proof = "holds"')


@breaks("policy-expired", Verdict.PASS)
def _(case):
    case.demand(
        "allow = [{ kind = 'extra', files = 'a', reason = 'r', expires = 2020-01-01 }]",
    )


@breaks("policy-in-model", Verdict.PASS)
def _(case):
    case.asked = {"ignored": "r1prov.toml"}


@breaks("too-many-tensors")
def _(case):
    entry = '"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % n for n in range(MAX_TENSORS_PER_FILE + 1)) + "}").encode()
    (case.model / SECOND).write_bytes(struct.pack("<Q", len(header)) + header)


def test_the_sound_model_breaks_no_rule(case):
    report = case.verify()
    assert report.verdict is Verdict.PASS
    # The skeleton's index counts bytes as `transformers` does, so not even that note.
    assert [one.rule.name for one in report.findings] == []


def test_there_is_a_case_for_every_rule():
    # Bundles of OpenSSF Model Signing have no manifest of ours, and the extra is installed here:
    # the tests of those name their rules.
    oms = {rule.name for rule in RULES if rule.id.startswith("R1P31")} | {"timestamp-unchecked"}
    # Answers of an API are no models: tests/responses/test_every_response_rule.py has theirs.
    responses = {rule.name for rule in RULES if rule.id.startswith("R1P8")}
    # Rules of endpoints are broken by answers too.
    endpoints = {rule.name for rule in RULES if rule.id.startswith("R1P9")}
    # Nor are evidence bundles: tests/evidence and tests/cli/test_evidence.py break each of theirs.
    evidence = {rule.name for rule in RULES if rule.name.startswith("evidence-")}
    endpoints -= evidence
    assert {rule.name for rule in RULES} == set(CASES) | oms | responses | endpoints | evidence
    tests = Path(__file__).parents[1]
    folders = ("endpoints", "evidence")
    paths = [path for one in folders for path in tests.glob(f"{one}/**/test_*.py")]
    named = "".join(path.read_text() for path in paths)
    assert {name for name in endpoints if f'"{name}"' not in named} == set()
    text = "".join(path.read_text() for path in tests.glob("*/test_oms*.py"))
    text += "".join(path.read_text() for path in tests.glob("trust/test_*.py"))
    assert {name for name in oms if f'"{name}"' not in text} == set()
    text = "".join(path.read_text() for path in tests.glob("evidence/test_*.py"))
    text += (tests / "cli" / "test_evidence.py").read_text()
    assert {name for name in evidence if f'"{name}"' not in text} == set()


@pytest.mark.parametrize("rule", sorted(CASES))
def test_rule(case, rule):
    function, verdict = CASES[rule]
    function(case)
    report = case.verify()
    produced = [one for one in report.findings if one.rule.name == rule]
    assert produced, [one.rule.name for one in report.findings]
    if verdict is None:
        assert report.verdict is Verdict.FAIL
    else:
        assert report.verdict is verdict
    table = next(one for one in RULES if one.name == rule)
    if table.severity is Severity.ERROR and verdict is Verdict.FAIL:
        assert any(one.severity is Severity.ERROR for one in produced)
    for one in produced:
        assert one.subject
        assert one.message
        assert one.hint or table.help
