"""The same weights in other files: real weights, re-sharded by the safetensors library."""

import ctypes
import hashlib
import json
import shutil

import pytest

from r1prov.errors import ChangedWhileReading
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.manifest.build import build_manifest_with_tensors
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.shelf import Shelf
from r1prov.manifest.tensor_digests import TensorDigest, check_tensor_digests
from r1prov.stores.headers import read_headers, safetensors_paths, tensor_extents
from r1prov.stores.local import LocalStore
from r1prov.verify.by_tensor import (
    LISTED,
    ModelTensor,
    check_by_tensor,
    match_tensors,
    model_tensors,
)
from r1prov.verify.compare import Change, compare, diff_tensors, load_side

QUERY = "encoder.layer.0.attention.self.query.weight"
KEY = "encoder.layer.0.attention.self.key.weight"
VALUE = "encoder.layer.0.attention.self.value.weight"
# What `TensorSpec` calls dtypes.
LIBRARY_NAMES = {"F32": "float32", "I64": "int64", "I32": "int32"}
NORM = "embeddings.LayerNorm.weight"


@pytest.fixture(scope="session")
def loaded(minilm):
    """Every tensor of the model as the library reads it: dtype, shape and bytes."""
    from safetensors import deserialize

    return dict(deserialize((minilm / "model.safetensors").read_bytes()))


@pytest.fixture(scope="session")
def built(minilm):
    return build_manifest_with_tensors(
        LocalStore(minilm),
        "MiniLM.tensors",
        name="MiniLM",
        publisher="p",
        variant="other",
        source="",
        revision="",
        license="unknown",
    )


@pytest.fixture(scope="session")
def stated(built):
    return check_tensor_digests(*built, subject="MiniLM.tensors")


def spread(tensors, count):
    """Deal tensors out to so many files."""
    names = list(tensors)
    return [{name: tensors[name] for name in names[number::count]} for number in range(count)]


def write(directory, files):
    """Write files with the safetensors library; it chooses the order of the data."""
    from safetensors import TensorSpec, serialize_file

    directory.mkdir()
    weight_map: dict[str, str] = {}
    for name, tensors in files.items():
        # The library is given addresses, so the buffers must outlive the call.
        buffers = {key: ctypes.create_string_buffer(bytes(t["data"])) for key, t in tensors.items()}
        specs = {
            key: TensorSpec(
                dtype=LIBRARY_NAMES[one["dtype"]],
                shape=one["shape"],
                data_ptr=ctypes.addressof(buffers[key]),
                data_len=len(one["data"]),
            )
            for key, one in tensors.items()
        }
        serialize_file(specs, str(directory / name), {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    if len(files) > 1:
        index = json.dumps({"metadata": {}, "weight_map": weight_map})
        (directory / "model.safetensors.index.json").write_text(index)
    return directory


def tensors_of(directory):
    store = LocalStore(directory)
    sizes = {entry.path: entry.size for entry in store.entries()}
    headers, errors = read_headers(store, safetensors_paths(sizes))
    assert errors == {}
    jobs = [
        HashJob(path, sizes[path], extents=tensor_extents(header, size=sizes[path]))
        for path, header in headers.items()
    ]
    hashed = hash_blobs(store.open, jobs)
    assert hashed.errors == {}
    return model_tensors(headers, hashed.digests)


def check(stated, directory):
    return check_by_tensor(stated, tensors_of(directory))


def found(result):
    return [(one.rule.name, one.subject) for one in result.findings]


def test_the_model_itself(stated, minilm, loaded):
    result = check(stated, minilm)
    assert result.same_weights
    assert result.findings == ()
    assert (result.tally.matching, result.tally.total) == (104, 104)
    data = sum(len(one["data"]) for one in loaded.values())
    assert result.tally.matching_bytes == result.tally.total_bytes == data


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_same_weights_in_other_files(stated, loaded, tmp_path, minilm, count):
    files = {
        f"part-{number}-of-{count}.safetensors": part
        for number, part in enumerate(spread(loaded, count))
    }
    model = write(tmp_path / "model", files)
    original = hashlib.sha256((minilm / "model.safetensors").read_bytes()).hexdigest()
    for name in files:
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() != original
    result = check(stated, model)
    assert result.same_weights
    assert result.findings == ()
    assert result.tally.matching == 104


def test_files_merged_and_renamed_again(stated, loaded, tmp_path):
    parts = write(
        tmp_path / "parts", {f"{n}.safetensors": part for n, part in enumerate(spread(loaded, 3))}
    )
    (parts / "0.safetensors").rename(parts / "zzz.safetensors")
    assert check(stated, parts).same_weights
    from safetensors import deserialize

    merged: dict[str, object] = {}
    for path in sorted(parts.glob("*.safetensors")):
        merged |= dict(deserialize(path.read_bytes()))
    assert check(stated, write(tmp_path / "merged", {"all.safetensors": merged})).same_weights


def test_one_changed_bit_names_the_one_tensor(stated, loaded, tmp_path):
    data = bytearray(loaded[QUERY]["data"])
    data[1000] ^= 1
    changed = {**loaded, QUERY: {**loaded[QUERY], "data": bytes(data)}}
    model = write(
        tmp_path / "m", {f"{n}.safetensors": part for n, part in enumerate(spread(changed, 4))}
    )
    result = check(stated, model)
    assert not result.same_weights
    assert found(result) == [("tensor-digest", QUERY)]
    (one,) = result.findings
    assert one.expected == f"sha256:{hashlib.sha256(loaded[QUERY]['data']).hexdigest()}"
    assert one.found == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert ".safetensors has other values" in one.message
    assert (result.tally.matching, result.tally.differing) == (103, (QUERY,))


def test_two_tensors_that_changed_places_are_told_apart(stated, loaded, tmp_path):
    changed = {**loaded, QUERY: loaded[KEY], KEY: loaded[QUERY]}
    result = check(stated, write(tmp_path / "m", {"model.safetensors": changed}))
    assert found(result) == [("tensor-digest", KEY), ("tensor-digest", QUERY)]
    assert result.findings[0].found.endswith(f", which is `{QUERY}`")
    assert result.findings[1].found.endswith(f", which is `{KEY}`")


def test_missing_extra_and_renamed_tensors(stated, loaded, tmp_path):
    changed = dict(loaded)
    changed["model.query"] = changed.pop(QUERY)
    del changed[KEY]
    changed["extra"] = changed[VALUE]
    changed["foreign"] = {"dtype": "F32", "shape": [1], "data": b"abcd"}
    result = check(stated, write(tmp_path / "m", {"model.safetensors": changed}))
    assert found(result) == [
        ("tensor-renamed", QUERY),
        ("tensor-missing", KEY),
        ("tensor-unlisted", "extra"),
        ("tensor-unlisted", "foreign"),
    ]
    renamed, missing, extra, foreign = result.findings
    assert (renamed.expected, renamed.found) == (QUERY, "model.query")
    assert missing.expected.startswith("F32 [384, 384], sha256:")
    assert extra.found.endswith(f", the bytes of `{VALUE}`")
    assert "the bytes of" not in foreign.found
    assert all(one.severity.value == "error" for one in result.findings)
    assert all(one.part.value == "weights" for one in result.findings)


def test_another_shape_or_dtype(stated, loaded, tmp_path):
    changed = {
        **loaded,
        QUERY: {**loaded[QUERY], "shape": [384 * 384]},
        NORM: {"dtype": "I32", "shape": [384], "data": loaded[NORM]["data"]},
    }
    model = write(tmp_path / "m", {"model.safetensors": changed})
    result = check(stated, model)
    assert found(result) == [("tensor-shape", NORM), ("tensor-shape", QUERY)]
    norm, query = result.findings
    assert (norm.expected, norm.found) == ("F32 [384]", "I32 [384]")
    assert norm.message.endswith("another dtype or shape over the same bytes")
    assert (query.expected, query.found) == ("F32 [384, 384]", "F32 [147456]")


def test_a_tensor_in_two_files_matches_nothing(stated, loaded, tmp_path):
    model = write(
        tmp_path / "m", {"model.safetensors": loaded, "other.safetensors": {QUERY: loaded[QUERY]}}
    )
    result = check(stated, model)
    assert found(result) == [("tensor-duplicate", QUERY)] * 2
    assert result.tally.matching == 103
    assert not result.same_weights


def test_long_lists_are_cut_and_counted(stated, loaded, tmp_path):
    renamed = {f"m.{name}": one for name, one in loaded.items()}
    result = check(stated, write(tmp_path / "m", {"model.safetensors": renamed}))
    assert found(result)[:LISTED] == [
        ("tensor-renamed", one.name) for one in sorted(stated)[:LISTED]
    ]
    assert len(result.findings) == LISTED + 1
    assert result.findings[-1].message == "84 more tensors of this kind, 104 in all"
    assert len(result.match.renamed) == 104
    assert len(result.tally.differing) == LISTED
    few = check_by_tensor(stated, tensors_of(tmp_path / "m"), listed=1)
    assert few.findings[1].message == "103 more tensors of this kind, 104 in all"


def test_a_tensor_that_was_not_read_is_neither_right_nor_wrong(stated, minilm):
    store = LocalStore(minilm)
    headers, _ = read_headers(store, ["model.safetensors"])
    result = check_by_tensor(stated, model_tensors(headers, {}))
    assert result.findings == ()
    assert (result.undigested, result.tally.matching) == (104, 0)
    assert not result.same_weights


def test_an_empty_model(stated):
    result = check_by_tensor(stated, [])
    assert len(result.match.only_a) == 104
    assert check_by_tensor([], []).same_weights


def tensor(name, content="00", shape=(2,), dtype="F32", file="f"):
    return ModelTensor(name, dtype, shape, content * 32 if content else None, file)


def test_tensors_of_one_content_are_renamed_in_order_and_once():
    zeros = [tensor("a.bias"), tensor("b.bias"), tensor("c.bias")]
    others = [tensor("b.bias"), tensor("y"), tensor("x"), tensor("z"), tensor("w", shape=(1, 2))]
    match = match_tensors(zeros, others)
    assert [(one.name, other.name) for one, other in match.renamed] == [
        ("a.bias", "x"),
        ("c.bias", "y"),
    ]
    assert [one.name for one in match.only_b] == ["w", "z"]
    assert match.only_a == []


def test_what_was_not_read_is_no_rename():
    match = match_tensors([tensor("a", None)], [tensor("b", None)])
    assert (len(match.only_a), len(match.only_b), match.renamed) == (1, 1, [])


def test_names_come_out_safe():
    result = check_by_tensor(
        [TensorDigest("a", "F32", (), "00" * 32)], [tensor("a", "11", (), file="evil\x1b[2J")]
    )
    assert "\x1b" not in result.findings[0].message


def test_r1_is_compared_in_a_moment():
    import time

    a = [tensor(f"t{number:06}", f"{number % 256:02x}") for number in range(91_991)]
    b = [one._replace(name=f"m.{one.name}") for one in a]
    started = time.process_time()
    assert len(match_tensors(a, b).renamed) == 91_991
    assert time.process_time() - started < 5  # 0.5 s; the rest is for a slow machine


# diff


def test_diff_says_exactly_which_tensors_differ():
    a = [
        tensor("same"),
        tensor("value"),
        tensor("shape"),
        tensor("old", "22"),
        tensor("gone", "33"),
    ]
    b = [
        tensor("same", file="elsewhere"),
        tensor("value", "11"),
        tensor("shape", shape=(1, 2)),
        tensor("new", "22"),
        tensor("added", "44"),
    ]
    zero, one = "00" * 32, "11" * 32
    assert diff_tensors(a, b) == (
        [
            Change("added", None, "F32 [2]"),
            Change("gone", "F32 [2]", None),
            Change("old", "F32 [2]", "renamed to new, same content"),
            Change("shape", "F32 [2]", "F32 [1, 2]"),
            Change("value", f"sha256:{zero}", f"sha256:{one}"),
        ],
        1,
    )


def test_diff_of_what_cannot_be_equal():
    changes, equal = diff_tensors([tensor("a", None)], [tensor("a")])
    assert (len(changes), equal) == (1, 0)
    assert changes[0].before == "F32 [2], sha256:unknown"
    changes, equal = diff_tensors([tensor("a"), tensor("a", file="g")], [tensor("a")])
    assert equal == 0
    for change, file in zip(changes, "fg", strict=True):
        assert change.before is not None
        assert change.before.startswith(f"more than once, here in {file}: F32 [2], sha256:00")
    assert diff_tensors([tensor("a")], [tensor("a"), tensor("a")])[1] == 0


def sides(*texts):
    return [load_side(str(text), Shelf(()), hashing=True, by_tensor=True) for text in texts]


def test_diff_of_a_model_and_its_shards(minilm, loaded, tmp_path):
    files = {f"{n}.safetensors": part for n, part in enumerate(spread(loaded, 3))}
    shards = write(tmp_path / "shards", files)
    result = compare(*sides(minilm, shards))
    assert result.tensors == ()
    assert result.equal_tensors == 104
    assert {one.name for one in result.files} >= {"model.safetensors", *files}


def test_diff_of_a_manifest_with_a_sidecar_and_a_model(built, minilm_copy, loaded, tmp_path):
    manifest, raw = built
    (tmp_path / "MiniLM.toml").write_bytes(emit_manifest(manifest))
    (tmp_path / "MiniLM.tensors").write_bytes(raw)
    result = compare(*sides(tmp_path / "MiniLM.toml", minilm_copy))
    assert (result.tensors, result.equal_tensors, result.files) == ((), 104, ())
    path = minilm_copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[content.index(loaded[QUERY]["data"]) + 5] ^= 1
    path.write_bytes(content)
    result = compare(*sides(tmp_path / "MiniLM.toml", minilm_copy))
    assert [one.name for one in result.tensors] == [QUERY]
    assert [one.name for one in result.files] == ["model.safetensors"]


def test_a_file_replaced_between_header_and_hash_is_no_side(minilm_copy, monkeypatch):
    path = minilm_copy / "model.safetensors"
    raw = path.read_bytes()
    opened = []

    class Swapping(LocalStore):
        def open(self, name):
            opened.append(name)
            if name == path.name and opened.count(name) == 2:  # the header was read before
                (minilm_copy / "new").write_bytes(bytes(len(raw)))
                (minilm_copy / "new").rename(path)
            return super().open(name)

    monkeypatch.setattr("r1prov.verify.compare.open_store", Swapping)
    with pytest.raises(ChangedWhileReading, match="after its header was read: inode"):
        sides(minilm_copy)


def test_diff_without_digests_of_tensors_is_as_before(minilm, tmp_path):
    copy = shutil.copytree(minilm, tmp_path / "copy")
    a, b = (load_side(str(path), Shelf(()), hashing=True) for path in (minilm, copy))
    result = compare(a, b)
    assert result.equal
    assert result.equal_tensors is None
