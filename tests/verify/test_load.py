"""`open_verified`: the tensors that are handed out are those that were checked."""

import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from r1prov.cli.app import run
from r1prov.errors import (
    LimitExceeded,
    ManifestError,
    NotFound,
    R1ProvError,
    UsageError,
    VerificationFailed,
)
from r1prov.family.skeleton import write_skeleton
from r1prov.stores import captured
from r1prov.verify import load
from r1prov.verify.findings import Verdict
from r1prov.verify.load import open_verified
from r1prov.verify.load_lazy import open_lazily
from r1prov.verify.local import verify_path
from r1prov.verify.pipeline import verify
from r1prov.verify.run import Run

WEIGHTS = "model.safetensors"
NORM = "encoder.layer.0.output.LayerNorm.bias"


def altered(path, target, name=NORM):
    """Write a well-formed file with one other value: what an attacker swaps in."""
    with safe_open(path, "np") as one:
        metadata = one.metadata()
    tensors = load_file(path)
    tensors[name] = tensors[name] + 1
    save_file(tensors, target, metadata=metadata)
    return target


@pytest.fixture(scope="module")
def evil(minilm, tmp_path_factory):
    return altered(minilm / WEIGHTS, tmp_path_factory.mktemp("evil") / WEIGHTS)


@pytest.fixture(scope="module")
def expected(minilm):
    return load_file(minilm / WEIGHTS)


@pytest.fixture
def with_tensors(minilm_copy, tmp_path, monkeypatch, capsys):
    """The real model under a manifest of our own that states a digest for each tensor."""
    monkeypatch.chdir(tmp_path)
    for words in (
        ["key", "generate", "k.pem", "--no-passphrase"],
        ["manifest", "create", str(minilm_copy), "--name", "mini", "--tensors", "-o", "mini.toml"],
        ["manifest", "sign", "mini.toml", "--key", "k.pem"],
        ["key", "add", "k.pem.pub", "--owner", "me", "--model", "mini", "--keys", "keys"],
    ):
        assert run(words) == 0, capsys.readouterr().err
    return {"manifest": "mini.toml", "keys": Path("keys")}


# --- the same as safetensors ---------------------------------------------------------------------


def check_equal(model, expected):
    assert model.keys() == sorted(expected)
    assert len(model) == len(expected)
    for name, theirs in expected.items():
        ours = model.get_tensor(name)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert np.array_equal(ours, theirs)


def test_it_reads_as_safe_open_does(minilm, expected):
    with (
        open_verified(minilm, expect="all-MiniLM-L6-v2") as model,
        safe_open(minilm / WEIGHTS, "np") as theirs,
    ):
        check_equal(model, expected)
        assert model.report.verdict is Verdict.PASS
        assert model.metadata() == theirs.metadata() == {"format": "pt"}
        assert sorted(model.keys()) == sorted(theirs.keys())
        assert model.offset_keys() == list(theirs.offset_keys())
        ours, peer = model.get_slice(NORM), theirs.get_slice(NORM)
        assert ours.get_shape() == peer.get_shape()
        assert ours.get_dtype() == peer.get_dtype()
        assert np.array_equal(ours[3:7], peer[3:7])
        assert model.read_file("config.json") == (minilm / "config.json").read_bytes()
        assert NORM in model
        with pytest.raises(NotFound, match="no tensor"):
            model.get_tensor("nonesuch")
        with pytest.raises(NotFound, match="nobody signed it"):
            model.read_file("nonesuch")


def test_nothing_can_write_to_what_was_checked(minilm):
    with open_verified(minilm) as model:
        tensor = model.get_tensor(NORM)
        assert not tensor.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            tensor.flags.writeable = True
        assert model.get_buffer(NORM).readonly


def test_arrays_outlive_the_model(minilm, expected):
    with open_verified(minilm) as model:
        kept = model.get_tensor(NORM)
    assert np.array_equal(kept, expected[NORM])
    with pytest.raises(UsageError, match="closed"):
        model.get_tensor(NORM)
    with pytest.raises(UsageError, match="closed"):
        model.read_file("config.json")


@pytest.mark.parametrize("lazy", [False, True])
def test_closed_by_another_thread_it_is_our_error(minilm_copy, with_tensors, lazy):
    """Between the look whether the model is open and the look at its bytes."""
    model = open_verified(minilm_copy, **with_tensors, lazy=lazy)
    content = model._open()
    model.close()
    with pytest.raises(R1ProvError):
        content.of(NORM)


def test_a_model_signature_names_no_tensors_to_open(minilm_copy, with_tensors):
    sign = ["manifest", "sign", "mini.toml", "--format", "oms", "--key", "k.pem", "-o", "mini.sig"]
    assert run(sign) == 0
    with pytest.raises(UsageError, match="OpenSSF Model Signing bundle"):
        open_verified(minilm_copy, "mini.sig", keys=with_tensors["keys"])


@pytest.mark.parametrize("lazy", [False, True])
def test_shards_are_one_model(tmp_path, monkeypatch, capsys, lazy):
    monkeypatch.chdir(tmp_path)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": 256,
    }
    write_skeleton(json.dumps(config).encode(), Path("m"), stages=(1,))
    shards = sorted(Path("m").glob("*.safetensors"))
    assert len(shards) == 2
    for number, shard in enumerate(shards):
        with safe_open(shard, "np") as one:
            tensors = {
                name: np.full(one.get_slice(name).get_shape(), number + 1, np.float16)
                for name in one.offset_keys()
            }
        save_file(tensors, shard, metadata={"format": "pt", "part": str(number)})
    for words in (
        ["key", "generate", "k.pem", "--no-passphrase"],
        ["manifest", "create", "m", "--name", "m", "--tensors", "-o", "m.toml"],
        ["manifest", "sign", "m.toml", "--key", "k.pem"],
        ["key", "add", "k.pem.pub", "--owner", "me", "--model", "m", "--keys", "keys"],
    ):
        assert run(words) == 0, capsys.readouterr().err
    everything: dict[str, np.ndarray] = {}
    for shard in shards:
        everything |= load_file(shard)
    with open_verified("m", Path("m.toml"), keys=Path("keys"), lazy=lazy) as model:
        check_equal(model, everything)
        assert model.metadata() == (None if lazy else {"format": "pt"})


def test_a_snapshot_of_a_hub_cache_opens(minilm, tmp_path, expected):
    """Its files are links into `blobs/`, which are followed as for `verify`."""
    folder = tmp_path / "models--org--MiniLM"
    snapshot, blobs = folder / "snapshots" / ("0" * 40), folder / "blobs"
    blobs.mkdir(parents=True)
    for path in filter(Path.is_file, minilm.rglob("*")):
        name = path.relative_to(minilm)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blobs / digest)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (2 + len(name.parts) - 1)
        (snapshot / name).symlink_to(f"{up}blobs/{digest}")
    with open_verified(folder) as model:
        check_equal(model, expected)


# --- the race ------------------------------------------------------------------------------------


class Swapper:
    """A thread that puts other bytes in a file's place when it is told to."""

    def __init__(self, swap):
        self._swap = swap
        self._go, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self):
        assert self._go.wait(60)
        self._swap()
        self._done.set()

    def now(self):
        self._go.set()
        assert self._done.wait(60)
        self._thread.join()


def replace_file(path, evil):
    shutil.copy(evil, path.with_name("new"))
    os.replace(path.with_name("new"), path)


def overwrite_in_place(path, evil):
    with path.open("r+b") as stream:
        stream.write(evil.read_bytes())


def cut(path, _evil):
    os.truncate(path, 100_000)


def write_through_a_mapping(path, evil):
    """Of another name of the file, outside the model: no directory is touched, no write called."""
    other = path.parent.parent / "other-name"
    os.link(path, other)
    with other.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[:] = evil.read_bytes()


def put_a_link_there(path, evil):
    path.unlink()
    path.symlink_to(evil)


def put_another_directory_there(path, evil):
    path.parent.rename(path.parent.with_name("old"))
    path.parent.mkdir()
    shutil.copy(evil, path)


def test_between_check_and_load_others_see_what_was_swapped_in(minilm_copy, evil, expected):
    """The gap: the verdict is a pass, and what is loaded is another model."""
    swapper = Swapper(lambda: replace_file(minilm_copy / WEIGHTS, evil))
    assert verify_path(minilm_copy).verdict is Verdict.PASS
    swapper.now()
    with safe_open(minilm_copy / WEIGHTS, "np") as loaded:
        assert np.array_equal(loaded.get_tensor(NORM), expected[NORM] + 1)


@pytest.mark.parametrize(
    "swap",
    [
        *(replace_file, overwrite_in_place, cut),
        *(write_through_a_mapping, put_a_link_there, put_another_directory_there),
    ],
)
def test_open_verified_sees_what_it_checked(minilm_copy, evil, expected, monkeypatch, swap):
    """The same thread at the same point, after the verdict and before anything is loaded."""
    path = minilm_copy / WEIGHTS
    swapper = Swapper(lambda: swap(path, evil))
    original = load._open_captured

    def swapped_before_load(*arguments):
        swapper.now()
        return original(*arguments)

    monkeypatch.setattr(load, "_open_captured", swapped_before_load)
    with open_verified(minilm_copy) as model:
        assert not same(path, expected)
        check_equal(model, expected)


def same(path, expected):
    try:
        return np.array_equal(load_file(path)[NORM], expected[NORM])
    except SafetensorError:  # cut
        return False


@pytest.mark.parametrize("swap", [replace_file, overwrite_in_place, cut])
def test_a_model_that_changes_while_it_is_checked_is_refused(
    minilm_copy, evil, monkeypatch, swap, rules
):
    """After the copy was made, before the verdict: the copy is right, the model is not at rest."""
    swapper = Swapper(lambda: swap(minilm_copy / WEIGHTS, evil))
    original = Run.relist

    def swapped_before_relisting(self):
        if self.policy.level == "full":
            swapper.now()
        original(self)

    monkeypatch.setattr(Run, "relist", swapped_before_relisting)
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy)
    assert {one.rule.name for one in caught.value.report.findings} == {"file-changed"}


def test_swapped_before_the_copy_is_made_it_fails(minilm_copy, evil, monkeypatch):
    """Between the first look, which reads headers only, and the copy."""
    original = captured.CapturedStore.check_room
    swapper = Swapper(lambda: replace_file(minilm_copy / WEIGHTS, evil))

    def swapped_before_copying(self, most):
        swapper.now()
        return original(self, most)

    monkeypatch.setattr(captured.CapturedStore, "check_room", swapped_before_copying)
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy)
    assert "file-digest" in {one.rule.name for one in caught.value.report.findings}


# --- what is not opened --------------------------------------------------------------------------


def test_an_altered_model_is_not_opened(minilm_copy, evil):
    replace_file(minilm_copy / WEIGHTS, evil)
    with pytest.raises(VerificationFailed, match=r"model\.safetensors") as caught:
        open_verified(minilm_copy)
    report = caught.value.report
    assert report.verdict is Verdict.FAIL
    assert caught.value.exit_code == report.exit_status == 1
    assert [one.rule.name for one in report.findings] == ["file-digest"]


def test_what_structure_tells_is_told_before_a_byte_is_copied(minilm_copy, monkeypatch):
    (minilm_copy / "evil.py").write_text("import os\n")

    def copied(*_):
        raise AssertionError("a byte was copied")

    monkeypatch.setattr(captured.CapturedStore, "_copy", copied)
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy)
    assert "code-unlisted" in {one.rule.name for one in caught.value.report.findings}
    with pytest.raises(VerificationFailed, match="verdict fail"):
        open_verified(minilm_copy, expect="full")


def test_an_unknown_model_is_incomplete_and_not_opened(tiny):
    with pytest.raises(VerificationFailed) as caught:
        open_verified(tiny)
    assert caught.value.exit_code == caught.value.report.exit_status
    assert caught.value.report.verdict is not Verdict.PASS


def test_an_unsigned_manifest_opens_nothing(minilm_copy, with_tensors, tmp_path):
    bundle = next(tmp_path.glob("mini.toml.*sigstore.json"))
    bundle.unlink()
    for lazy in (False, True):
        with pytest.raises(VerificationFailed) as caught:
            open_verified(minilm_copy, **with_tensors, lazy=lazy)
        assert caught.value.report.manifest.trusted is False


@pytest.mark.parametrize("lazy", [False, True])
def test_a_manifest_without_a_digest_for_a_file_opens_nothing(minilm_copy, with_tensors, lazy):
    path = Path("mini.toml")
    lines = path.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if '"vocab.txt"' in line)
    del lines[next(n for n in range(at, len(lines)) if lines[n].startswith("sha256"))]
    path.write_text("".join(lines))
    for bundle in Path().glob("mini.toml.*"):
        bundle.unlink()
    assert run(["manifest", "sign", "mini.toml", "--key", "k.pem"]) == 0
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy, **with_tensors, lazy=lazy)
    assert caught.value.report.verdict is Verdict.INCOMPLETE
    assert caught.value.exit_code == 3


def test_another_manifest_put_in_place_meanwhile_is_refused(minilm_copy, with_tensors, monkeypatch):
    """Of the same model name, and not what the report rests on."""

    def swapped_after_verifying(*arguments, **options):
        report = verify(*arguments, **options)
        Path("mini.toml").write_text("# other\n" + Path("mini.toml").read_text())
        return report

    monkeypatch.setattr(load, "verify", swapped_after_verifying)
    with pytest.raises(ManifestError, match="changed while"):
        open_verified(minilm_copy, **with_tensors, by="tensor")


def test_a_policy_that_asks_for_every_byte_refuses_lazy(minilm_copy, with_tensors):
    Path("p.toml").write_text(
        'schema = "r1prov/policy/1"\n[[models]]\nname = "mini"\nmin_level = "full"\n'
    )
    asked = {**with_tensors, "policy": Path("p.toml")}
    open_verified(minilm_copy, **asked).close()
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy, **asked, lazy=True)
    assert "policy-level" in {one.rule.name for one in caught.value.report.findings}


def test_memory_is_asked_for_before_it_is_taken(minilm):
    with pytest.raises(LimitExceeded, match="90,000,000 are allowed"):
        open_verified(minilm, max_bytes=90_000_000)
    with open_verified(minilm, max_bytes=92_000_000) as model:
        assert len(model) == 104


def test_models_elsewhere_and_unknown_frameworks_are_usage_errors(minilm):
    with pytest.raises(UsageError, match="of this machine"):
        open_verified("hf://deepseek-ai/DeepSeek-R1")
    with pytest.raises(UsageError, match="no tensors for 'tf'"):
        open_verified(minilm, framework="tf")
    with pytest.raises(UsageError, match="by tensor anyway"):
        open_verified(minilm, lazy=True, by="tensor")


def test_under_scope_weights_a_file_that_differs_is_not_handed_out(minilm_copy):
    (minilm_copy / "vocab.txt").write_text("other\n")
    with open_verified(minilm_copy, scope="weights") as model:
        assert model.read_file("config.json")
        with pytest.raises(VerificationFailed, match=r"vocab\.txt") as caught:
            model.read_file("vocab.txt")
        assert caught.value.report.verdict is Verdict.FAIL
        assert caught.value.exit_code == 1


def test_an_extra_weight_file_that_a_policy_lets_lie_is_not_loaded(
    minilm_copy, expected, tmp_path, monkeypatch
):
    save_file({"extra": np.ones(3)}, minilm_copy / "model-00002-of-00002.safetensors")
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(
        'schema = "r1prov/policy/1"\n[[models]]\nname = "all-MiniLM-L6-v2"\nmin_level = "full"\n'
        '[[models.allow]]\nfiles = "model-00002-of-00002.safetensors"\nkind = "extra"\n'
        'reason = "test"\nexpires = 2999-01-01\n'
    )
    with open_verified(minilm_copy, policy=Path("p.toml")) as model:
        check_equal(model, expected)


def test_by_tensor_other_shards_of_the_same_weights_open(minilm_copy, with_tensors, expected):
    (minilm_copy / WEIGHTS).rename(minilm_copy / "model-00001-of-00001.safetensors")
    with pytest.raises(VerificationFailed):
        open_verified(minilm_copy, **with_tensors)
    with open_verified(minilm_copy, **with_tensors, by="tensor") as model:
        check_equal(model, expected)


# --- lazily --------------------------------------------------------------------------------------


def test_lazily_every_tensor_is_checked_when_it_is_read(minilm_copy, with_tensors, expected, evil):
    with open_verified(minilm_copy, **with_tensors, lazy=True) as model:
        assert model.report.verdict is Verdict.INCOMPLETE
        rows = {one.item: one for one in model.report.coverage}
        assert rows["SHA-256 of other files"].state == "checked"
        assert "when it is read" in rows["SHA-256 of weight files"].detail
        check_equal(model, expected)
        overwrite_in_place(minilm_copy / WEIGHTS, evil)
        with pytest.raises(VerificationFailed, match=NORM) as caught:
            model.get_tensor(NORM)
        assert caught.value.report.findings[-1].rule.name == "tensor-digest"
        assert caught.value.exit_code == 1
        cut(minilm_copy / WEIGHTS, None)
        with pytest.raises(VerificationFailed):
            model.get_tensor("encoder.layer.5.output.dense.weight")


def test_lazily_what_was_read_stays_what_it_was(minilm_copy, with_tensors, expected, evil):
    with open_verified(minilm_copy, **with_tensors, lazy=True) as model:
        kept = model.get_tensor(NORM)
        overwrite_in_place(minilm_copy / WEIGHTS, evil)
        assert np.array_equal(kept, expected[NORM])
        replace_file(minilm_copy / WEIGHTS, evil)
    with pytest.raises(UsageError, match="closed"):
        model.get_tensor(NORM)


def test_lazily_an_altered_tensor_is_found_when_it_is_read(
    minilm_copy, with_tensors, expected, evil
):
    replace_file(minilm_copy / WEIGHTS, evil)
    with open_verified(minilm_copy, **with_tensors, lazy=True) as model:
        other = "encoder.layer.0.output.LayerNorm.weight"
        assert np.array_equal(model.get_tensor(other), expected[other])
        with pytest.raises(VerificationFailed):
            model.get_tensor(NORM)


def test_lazily_small_files_are_checked_at_once(minilm_copy, with_tensors):
    path = minilm_copy / "vocab.txt"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"x")
    with pytest.raises(VerificationFailed, match=r"vocab\.txt") as caught:
        open_verified(minilm_copy, **with_tensors, lazy=True)
    assert caught.value.report.verdict is Verdict.FAIL
    with open_verified(minilm_copy, **with_tensors, lazy=True, scope="weights") as model:
        assert len(model) == 104


def test_lazily_other_headers_are_refused_at_once(minilm_copy, with_tensors, expected, monkeypatch):
    """A file of other tensors that is put there after the structure was checked."""
    path = minilm_copy / WEIGHTS
    tensors = {**expected, NORM: expected[NORM].reshape(2, -1)}
    swapper = Swapper(lambda: save_file(tensors, path, metadata={"format": "pt"}))

    def swapped_before_opening(*arguments):
        swapper.now()
        return open_lazily(*arguments)

    monkeypatch.setattr(load, "open_lazily", swapped_before_opening)
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy, **with_tensors, lazy=True)
    assert caught.value.report.findings[-1].rule.name == "tensor-shape"


def test_lazily_a_malformed_header_is_refused_at_once(minilm_copy, with_tensors, monkeypatch):
    swapper = Swapper(lambda: cut(minilm_copy / WEIGHTS, None))

    def swapped_before_opening(*arguments):
        swapper.now()
        return open_lazily(*arguments)

    monkeypatch.setattr(load, "open_lazily", swapped_before_opening)
    with pytest.raises(VerificationFailed) as caught:
        open_verified(minilm_copy, **with_tensors, lazy=True)
    assert caught.value.report.findings[-1].rule.name == "data-truncated"


def test_lazily_needs_digests_of_tensors(minilm):
    with pytest.raises(UsageError, match="states no digests of tensors"):
        open_verified(minilm, lazy=True)


# --- memory --------------------------------------------------------------------------------------

_MEASURE = """
import re, sys
import numpy
import r1prov
def peak():  # not `ru_maxrss`, which a process takes over from its parent
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]) * 1024
r1prov.verify_path(sys.argv[1])  # everything that is imported, and the hashing buffers
before = peak()
arguments = {"manifest": "mini.toml", "keys": __import__("pathlib").Path("keys")}
with r1prov.open_verified(sys.argv[1], **arguments, lazy=sys.argv[2] == "lazy") as model:
    opened = peak()
    total = 0.0
    for name in model.keys():
        total += float(model.get_tensor(name).sum())
    print(opened - before, peak() - before)
"""


@pytest.mark.parametrize(
    ("mode", "opened_at_most", "read_at_most"),
    [
        # The file has 90.9 MB and its largest tensor 46.9 MB.
        ("eager", 1.1, 1.1),
        ("lazy", 0.05, 2.2 * 46.9 / 90.9),
    ],
)
def test_the_whole_model_is_in_memory_once(
    minilm_copy, with_tensors, mode, opened_at_most, read_at_most
):
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(minilm_copy), mode],
        capture_output=True,
        text=True,
        check=True,
    )
    opened, read = map(int, done.stdout.split())
    size = (minilm_copy / WEIGHTS).stat().st_size
    assert opened <= opened_at_most * size
    assert read <= read_at_most * size
    if mode == "eager":
        assert opened >= 0.9 * size  # or the measure itself shows nothing


# --- torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_torch_tensors_are_those_of_safe_open(minilm_copy, with_tensors, lazy):
    torch = pytest.importorskip("torch")  # no dependency of r1prov
    with (
        open_verified(minilm_copy, **with_tensors, framework="pt", lazy=lazy) as model,
        safe_open(minilm_copy / WEIGHTS, "pt") as theirs,
    ):
        for name in theirs.offset_keys():
            ours = model.get_tensor(name)
            assert ours.dtype == theirs.get_tensor(name).dtype
            assert torch.equal(ours, theirs.get_tensor(name))
        model.get_tensor(NORM).zero_()  # its own memory: what was checked stays
        assert torch.equal(model.get_tensor(NORM), theirs.get_tensor(NORM))
        assert torch.equal(model.get_slice(NORM)[2:5], theirs.get_slice(NORM)[2:5])
