"""Manifests of Ollama tags: real ones, and those that two readers could read in two ways."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import FormatError, JsonError
from r1prov.formats.ollama_manifest import (
    LIST_TYPE,
    OllamaConfig,
    parse_ollama_config,
    parse_ollama_manifest,
)
from r1prov.limits import MAX_OLLAMA_MANIFEST_BYTES

IMAGE = "application/vnd.ollama.image."
# deepseek-r1:latest of early 2025 as the registry served it (code index id 3567487746).
PUBLISHED = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
    b'"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":'
    b'"sha256:40fb844194b25e429204e5163fb379ab462978a262b86aadd73d8944445c09fd","size":487},'
    b'"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":'
    b'"sha256:96c415656d377afbff962f6cdb2394ab092ccbcbaab4b82525bc4ca800fe8a49",'
    b'"size":4683073184},{"mediaType":"application/vnd.ollama.image.template","digest":'
    b'"sha256:369ca498f347f710d068cbb38bf0b8692dd3fa30f30ca2ff755e211c94768150","size":387},'
    b'{"mediaType":"application/vnd.ollama.image.license","digest":'
    b'"sha256:6e4c38e1172f42fdbff13edf9a7a017679fb82b0fde415a3e8b3c31c6ed4a4e4","size":1065},'
    b'{"mediaType":"application/vnd.ollama.image.params","digest":'
    b'"sha256:f4d24e9138dd4603380add165d2b0d970bef471fac194b436ebd50e6147c6588","size":148}]}'
)


def layer(kind: str = "model", digits: str = "a" * 64, size: object = 1, **more: object):
    return {"mediaType": IMAGE + kind, "digest": f"sha256:{digits}", "size": size, **more}


def manifest(*layers: object, **changes: object) -> bytes:
    top = json.loads(PUBLISHED)
    if layers:
        top["layers"] = list(layers)
    top.update(changes)
    return json.dumps({k: v for k, v in top.items() if v is not ...}).encode()


def paths(*layers: object) -> list[str]:
    return [one.path for one in parse_ollama_manifest(manifest(*layers), subject="m").layers]


def test_a_published_manifest():
    parsed = parse_ollama_manifest(PUBLISHED, subject="m")
    assert [(one.path, one.size) for one in parsed.layers] == [
        ("model.gguf", 4_683_073_184),
        ("template", 387),
        ("license", 1065),
        ("params", 148),
        ("config.json", 487),
    ]
    (model,) = parsed.models()
    assert model.sha256.startswith("96c41565")
    assert model.media_type == f"{IMAGE}model"


def test_layers_of_one_kind_are_numbered():
    assert paths(
        layer(),
        layer("adapter", "b" * 64),
        layer("projector", "c" * 64),
        layer("adapter", "d" * 64),
        layer("license", "e" * 64),
        layer("license", "f" * 64),
    ) == [
        *("model.gguf", "adapter-1.gguf", "projector.gguf", "adapter-2.gguf"),
        *("license-1", "license-2", "config.json"),
    ]
    assert paths(layer(), layer(digits="b" * 64)) == ["model-1.gguf", "model-2.gguf", "config.json"]


def test_layers_with_names_of_their_own_lie_in_folders():
    assert paths(
        layer("tensor", name="text/a.weight"),
        layer("tensor", "b" * 64, name="text/b.weight"),
        layer("json", "c" * 64, name="config.json"),
        layer("json", "d" * 64, name=""),
    ) == ["tensor/text/a.weight", "tensor/text/b.weight", "json/config.json", "json", "config.json"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "a\\b", "C:x", "a\n", "\u202e"]
)
def test_names_that_leave_the_folder_or_deceive(name):
    with pytest.raises(FormatError, match="bad name"):
        paths(layer("tensor", name=name))


def test_two_layers_of_one_name():
    with pytest.raises(FormatError, match="two layers are called `tensor/x`"):
        paths(layer("tensor", name="x"), layer("tensor", "b" * 64, name="x"))


def test_media_types_of_others_are_plain_layers():
    other = {**layer(), "mediaType": "application/octet-stream"}
    assert paths(layer(), other, layer("x.y")) == [
        *("model.gguf", "layer-1", "layer-2", "config.json")
    ]


def test_digests_in_upper_case_and_with_a_dash():
    one = {**layer(), "digest": "sha256-" + "AB" * 32}
    (model, _) = parse_ollama_manifest(manifest(one), subject="m").layers
    assert model.sha256 == "ab" * 32
    assert model.written == "AB" * 32


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        f"sha256:{'../' * 21}a",
        f"sha256:{'a' * 63}",
        f"sha256:{'a' * 65}",
        f"sha256:{'g' * 64}",
        f"sha512:{'a' * 64}",
        f"sha256:{'a' * 64}\n",
        f"sha256/{'a' * 64}",
        "a" * 64,
        "",
        None,
        7,
    ],
)
def test_digests_that_are_none(digest):
    with pytest.raises(FormatError, match="digest") as caught:
        paths({**layer(), "digest": digest})
    assert caught.value.rule == "ollama-manifest"
    with pytest.raises(FormatError, match="the config has a digest"):
        parse_ollama_manifest(manifest(config={**layer(), "digest": digest}), subject="m")


@pytest.mark.parametrize("size", [-1, 2**63, 1.0, True, "1", None])
def test_sizes_that_are_none(size):
    with pytest.raises(FormatError, match="size"):
        paths(layer(size=size))


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"schemaVersion": True},
        {"schemaVersion": "2"},
        {"schemaVersion": ...},
        {"mediaType": "text/html"},
        {"mediaType": ...},
        {"layers": []},
        {"layers": {}},
        {"layers": [None]},
        {"config": None},
        {"config": []},
        {"layers": [{**layer(), "mediaType": "model"}]},
        {"layers": [{**layer(), "name": 1}]},
    ],
)
def test_manifests_that_are_none(changes):
    with pytest.raises(FormatError):
        parse_ollama_manifest(manifest(**changes), subject="m")


def test_a_list_of_manifests_is_called_one():
    raw = manifest(mediaType=LIST_TYPE, manifests=[], config=..., layers=...)
    with pytest.raises(FormatError, match="list of manifests"):
        parse_ollama_manifest(raw, subject="m")


@pytest.mark.parametrize(
    "changes",
    [
        {"LAYERS": [layer(digits="b" * 64)]},
        {"Config": layer()},
        {"layer\u017f": [layer(digits="b" * 64)]},
        {"layers": [{**layer(), "Digest": f"sha256:{'b' * 64}"}]},
        {"layers": [{**layer(), "\u017fize": 2}]},
    ],
)
def test_keys_that_go_takes_for_others(changes):
    with pytest.raises(FormatError, match="which Ollama reads as"):
        parse_ollama_manifest(manifest(**changes), subject="m")


def test_unknown_keys_are_passed_over():
    assert paths({**layer(), "from": "/x"}) == ["model.gguf", "config.json"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        PUBLISHED + PUBLISHED,
        PUBLISHED.replace(b'"size":148', b'"size":148,"size":149'),
        b"[" * 100_000,
        b" " * (MAX_OLLAMA_MANIFEST_BYTES + 1),
    ],
)
def test_what_is_no_strict_json(raw):
    with pytest.raises(JsonError):
        parse_ollama_manifest(raw, subject="m")


def test_a_config_and_its_claims():
    raw = b'{"model_family":"qwen2","model_type":"7.6B","file_type":"Q4_K_M","os":"linux"}\n'
    assert parse_ollama_config(raw, subject="c") == OllamaConfig("qwen2", "7.6B", "Q4_K_M")
    assert parse_ollama_config(b"{}", subject="c") == OllamaConfig(None, None, None)
    for bad in (b"[]", b'{"file_type":1}', b"", b"\xff"):
        with pytest.raises(FormatError):
            parse_ollama_config(bad, subject="c")


@given(st.data())
def test_nothing_but_format_errors_leave(data):
    cut = data.draw(st.integers(0, len(PUBLISHED)))
    length = data.draw(st.integers(0, 12))
    raw = PUBLISHED[:cut] + data.draw(st.binary(max_size=12)) + PUBLISHED[cut + length :]
    with suppress(FormatError):
        parse_ollama_manifest(raw, subject="m")


def test_many_layers_are_quick():
    many = [layer("license", f"{i:064x}") for i in range(20_000)]
    assert paths(*many)[-2:] == ["license-20000", "config.json"]
