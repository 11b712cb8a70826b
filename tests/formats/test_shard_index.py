from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ShardIndexError
from r1prov.formats.shard_index import is_shard_index, parse_shard_index

SHARD = "model-00001-of-000163.safetensors"


def index(weight_map: object, **members: object) -> bytes:
    return json.dumps({"weight_map": weight_map} | members).encode()


def rule_of(raw: bytes) -> str:
    with pytest.raises(ShardIndexError) as caught:
        parse_shard_index(raw, file="i.json")
    assert caught.value.subject == "i.json"
    return caught.value.rule


def test_index() -> None:
    raw = index({"b": SHARD, "a": "sub/x.safetensors"}, metadata={"total_size": 7, "x": [1]})
    found = parse_shard_index(raw, file="i.json")
    assert found.file == "i.json"
    assert list(found.weight_map.items()) == [("b", SHARD), ("a", "sub/x.safetensors")]
    assert found.total_size == 7


@pytest.mark.parametrize("members", [{}, {"metadata": {}}])
def test_total_size_is_optional(members: dict[str, object]) -> None:
    assert parse_shard_index(index({"a": SHARD}, **members), file="i").total_size is None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}',
        b'{"weight_map":{"a":"1.safetensors","\\u0061":"1.safetensors"}}',
        b'{"weight_map":{"a":"1.safetensors"},"weight_map":{"a":"2.safetensors"}}',
    ],
)
def test_duplicates(raw: bytes) -> None:
    # A44
    assert rule_of(raw) == "index-duplicate"


@pytest.mark.parametrize(
    "shard",
    [
        "../evil.safetensors", "/evil.safetensors", "https://evil/x.safetensors",
        "a\\b.safetensors", "C:x.safetensors", "a/../x.safetensors", "", "\x1b.safetensors",
        "evil.bin", "x.SAFETENSORS", "x.safetensors/", "x.safetensors\n",
    ],
)  # fmt: skip
def test_paths(shard: str) -> None:
    # A45; and a shard of another suffix would be unpickled
    assert rule_of(index({"a": SHARD, "b": shard})) == "index-path"


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{}",
        b"1",
        b'{"metadata":{}}',
        index({}),
        index([]),
        index(None),
        index("x"),
        index({"a": 1}),
        index({"a": None}),
        index({"a": [SHARD]}),
        index({"": SHARD}),
        index({"../a": SHARD}),
        index({"a\nb": SHARD}),
        index({"a": SHARD}, metadata=[]),
        index({"a": SHARD}, extra={}),
        *(
            b'{"weight_map":{"a":"a.safetensors"},"metadata":{"total_size":' + size + b"}}"
            for size in (b"-1", b"1.5", b'"5"', b"true", b"null", b"[]", b"{}", b"%d" % 2**63)
        ),
    ],
)
def test_entries(raw: bytes) -> None:
    assert rule_of(raw) == "index-entry"


def test_what_sloppy_writers_leave_is_no_fault() -> None:
    nothing = parse_shard_index(index({"a": SHARD}, metadata=None), file="i")
    assert nothing.total_size is None
    divided = b'{"weight_map":{"a":"a.safetensors"},"metadata":{"total_size":16.0}}'
    assert parse_shard_index(divided, file="i").total_size == 16


@pytest.mark.parametrize(
    "path",
    ["m.safetensors.index.json", "a/model.safetensors.index.fp16.json", "M.SAFETENSORS.INDEX.JSON"],
)
def test_names_of_indexes(path: str) -> None:
    assert is_shard_index(path)
    assert not is_shard_index(path + "x")
    assert not is_shard_index("pytorch_model.bin.index.json")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xef\xbb\xbf{}", b"{}\0", b"[" * 100_000, b'{"a":NaN}', b'{"a":"\\ud800"}']
)
def test_json(raw: bytes) -> None:
    assert rule_of(raw) == "index-json"


names = st.one_of(st.sampled_from(["a", "weight_map", "metadata", SHARD, "../x"]), st.text())
values = st.recursive(
    st.one_of(names, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(names, inner, max_size=3)),
)


@given(st.one_of(st.binary(), values.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_give_an_index_or_a_shard_index_error(raw: bytes) -> None:
    try:
        found = parse_shard_index(raw, file="i")
    except ShardIndexError:
        return
    assert found.weight_map
