"""Layouts reproduce what was published, to the byte."""

import hashlib

import pytest

from r1prov.errors import UsageError
from r1prov.family.skeleton import plan_layout, write_skeleton
from r1prov.formats.inventory import Inventory
from r1prov.formats.shard_index import parse_shard_index
from r1prov.hashing.digest import git_blob_id
from r1prov.stores.headers import read_headers
from r1prov.stores.local import LocalStore

INDEX = "model.safetensors.index.json"

# SHA-256, or Git blob id where only that was published.
PUBLISHED_INDEX = {
    "DeepSeek-R1": "a2c5d238ab1e8301a117336e9797e0d3551cb8f6dc9dc787318b23d8f54c9248",
    "DeepSeek-R1@5a56bdb": "210ab5c5ca880ad0003c3b0ea876eb05f3215136",
    "DeepSeek-R1-Distill-Qwen-7B": "d66b77d50ede97a02d92e1ba7f9e1ca2673d270f",
    "DeepSeek-R1-Distill-Llama-8B": (
        "83bdf4be4bb1a054ff315cd804554c48a88036226fdfbc65bee84ff562fea32a"
    ),
    "DeepSeek-R1-Distill-Qwen-14B": "fd0607be948e8dc54df251858b06a62d422da432",
    "DeepSeek-R1-Distill-Qwen-32B": "44a46e35d543b18e31d1f8776830955a1229d610",
    "DeepSeek-R1-Distill-Llama-70B": (
        "3b91e78c60e2708c9354d46fe4fc20520d0a12713e13d5ffab60118305c96620"
    ),
}
PUBLISHED_SIZES = {
    "DeepSeek-R1-Distill-Qwen-1.5B": [3554214621],
    "DeepSeek-R1-Distill-Qwen-7B": [8606596466, 6624675384],
    "DeepSeek-R1-Distill-Llama-8B": [8667826246, 7392730108],
    "DeepSeek-R1-Distill-Qwen-14B": [8714116464, 8667059663, 8667059711, 3491898034],
    "DeepSeek-R1-0528-Qwen3-8B": [8610202930, 7771313866],
}


@pytest.mark.parametrize("name", PUBLISHED_INDEX)
def test_the_index_is_the_published_one(config, name):
    index = plan_layout(config(name)[0]).index
    assert index is not None
    assert PUBLISHED_INDEX[name] in (hashlib.sha256(index).hexdigest(), git_blob_id(index))


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_the_sizes_are_the_published_ones(config, name):
    layout = plan_layout(config(name)[0])
    assert [shard.size for shard in layout.shards] == PUBLISHED_SIZES[name]


@pytest.mark.parametrize("name", ["DeepSeek-R1", "DeepSeek-R1-Distill-Qwen-32B"])
def test_every_shard_is_as_large_as_the_hub_commit_says(config, shipped, name):
    bound = {e.name: e.size for e in shipped[name].hub_commit.entries if e.lfs}
    layout = plan_layout(config(name)[0])
    assert {shard.name: shard.size for shard in layout.shards} == bound


def test_70b_is_as_large_as_published(config):
    layout = plan_layout(config("DeepSeek-R1-Distill-Llama-70B")[0])
    total = sum(shard.size for shard in layout.shards)
    assert len(layout.shards) == 17
    assert round(total / 2**30, 6) == 131.416598


def test_r1_is_written_in_full_and_takes_no_room(config, manifests_dir, tmp_path):
    raw = (manifests_dir / "facts" / "configs" / "DeepSeek-R1@5a56bdb.json").read_bytes()
    layout = write_skeleton(raw, tmp_path)
    store = LocalStore(tmp_path)
    sizes = {entry.path: entry.size for entry in store.entries()}
    weights = sorted(path for path in sizes if path.endswith(".safetensors"))
    assert len(weights) == 163
    assert sum(sizes[path] for path in weights) == 688_586_727_753
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 64 * 2**20
    headers, errors = read_headers(store, weights)
    assert not errors
    inventory = Inventory(tensor for header in headers.values() for tensor in header.tensors)
    assert inventory.digest() == layout.inventory().digest()
    index = parse_shard_index((tmp_path / INDEX).read_bytes(), file=INDEX)
    assert index.weight_map == {tensor.name: tensor.file for tensor in inventory}
    assert (tmp_path / "config.json").read_bytes() == raw


def test_no_blueprint_is_said(tmp_path):
    with pytest.raises(UsageError, match="no blueprint"):
        write_skeleton(b'{"model_type": "gpt2"}', tmp_path)
    with pytest.raises(UsageError, match="object"):
        write_skeleton(b"[]", tmp_path)
