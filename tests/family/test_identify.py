"""Which model is it: never more certain than the evidence."""

import pytest

from r1prov.family.identify import Certainty, ConfigState, identify
from r1prov.family.likeness import Relation
from r1prov.family.skeleton import plan_layout
from r1prov.formats.inventory import Inventory


@pytest.fixture(scope="session")
def r1(config):
    return plan_layout(config("DeepSeek-R1@5a56bdb")[0])


@pytest.fixture(scope="session")
def ask(shipped):
    def call(inventory, config=(None, None), sizes=None):
        return identify(
            inventory,
            config=config[0],
            config_sha256=config[1],
            file_sizes=sizes or {},
            manifests=list(shipped.values()),
        )

    return call


def test_r1_without_a_config_is_r1_by_geometry(ask, r1):
    result = ask(r1.inventory())
    assert (result.kind, result.name, result.exact) == ("full", "DeepSeek-R1", True)
    assert result.certainty is Certainty.GEOMETRY
    assert "equally of DeepSeek-V3 and DeepSeek-V3.1" in result.headline()
    assert any("only digests" in line for line in result.cannot_tell)
    assert any("DeepSeek-R1-Zero" in line for line in result.cannot_tell)
    assert [c.name for c in result.candidates if c.exact] == [
        *("DeepSeek-R1", "DeepSeek-V3", "DeepSeek-V3.1")
    ]


@pytest.mark.parametrize(
    ("of", "kind", "name", "state"),
    [
        ("DeepSeek-R1@5a56bdb", "full", "DeepSeek-R1", ConfigState.DIGEST),
        ("DeepSeek-R1", "full", "DeepSeek-R1", ConfigState.FACTS),
        ("DeepSeek-V3", "base", "DeepSeek-V3", ConfigState.DIGEST),
        ("DeepSeek-V3.1", "base", "DeepSeek-V3.1", ConfigState.DIGEST),
    ],
)
def test_the_config_orders_twins_and_settles_nothing(ask, config, r1, of, kind, name, state):
    result = ask(r1.inventory(), config(of))
    assert (result.kind, result.name) == (kind, name)
    assert result.certainty is Certainty.CONFIG_ONLY
    assert result.candidates[0].config is state
    assert any("only digests" in line for line in result.cannot_tell)
    assert not result.config_conflicts


def test_a_config_that_says_too_little_or_lies_settles_nothing(ask, r1):
    for value in ({}, {"model_type": "deepseek_v3"}, {"transformers_version": "4.33.1"}):
        result = ask(r1.inventory(), (value, "0" * 64))
        assert (result.name, result.certainty) == ("DeepSeek-R1", Certainty.GEOMETRY)
    lies = {"num_hidden_layers": 128, "num_attention_heads": 16, "hidden_size": True}
    conflicts = ask(r1.inventory(), (lies, None)).config_conflicts
    assert len(conflicts) == 3
    assert "`num_hidden_layers` is `128`; the headers show 61" in conflicts[0]
    assert "`num_attention_heads` is `16`; DeepSeek-R1 has `128`" in conflicts[2]


@pytest.mark.parametrize(
    ("name", "certainty"),
    [
        ("DeepSeek-R1-Distill-Qwen-1.5B", Certainty.INVENTORY),
        ("DeepSeek-R1-Distill-Qwen-7B", Certainty.INVENTORY),
        ("DeepSeek-R1-Distill-Qwen-14B", Certainty.GEOMETRY),
        ("DeepSeek-R1-Distill-Qwen-32B", Certainty.INVENTORY),
        ("DeepSeek-R1-Distill-Llama-8B", Certainty.GEOMETRY),
        ("DeepSeek-R1-Distill-Llama-70B", Certainty.GEOMETRY),
        ("DeepSeek-R1-0528-Qwen3-8B", Certainty.INVENTORY),
    ],
)
def test_distills_are_told_apart_and_base_twins_named(ask, config, name, certainty):
    layout = plan_layout(config(name)[0])
    sizes = {shard.name: shard.size for shard in layout.shards}
    result = ask(layout.inventory(), config(name), sizes)
    assert (result.kind, result.name, result.certainty) == ("distill", name, certainty)
    assert all(reason.agrees for reason in result.candidates[0].reasons)
    assert any("fine-tune" in line for line in result.cannot_tell)
    twins = [line for line in result.cannot_tell if "base model" in line]
    assert bool(twins) == (certainty is Certainty.GEOMETRY)


def test_reasons_say_found_and_expected(ask, config):
    result = ask(plan_layout(config("DeepSeek-R1-Distill-Qwen-7B")[0]).inventory())
    r1 = next(c for c in result.candidates if c.name == "DeepSeek-R1")
    reasons = {reason.feature: (reason.found, reason.expected) for reason in r1.reasons}
    assert reasons["layers"] == ("28", "61")
    assert reasons["experts a layer"] == ("0", "256")
    assert reasons["hidden size"] == ("3,584", "7,168")
    assert reasons["vocabulary"] == ("152,064", "129,280")
    assert reasons["parameters"] == ("7,615,616,512", "671,026,419,200")
    assert reasons["dtypes"] == ("339 BF16", "316 BF16, 45,867 F32, 45,808 F8_E4M3")
    assert r1.relation is Relation.OTHER


@pytest.mark.parametrize("kept", [slice(0, -1), slice(0, 80), slice(4, 5)])
def test_missing_shards_leave_a_part(ask, r1, kept):
    part = Inventory(tensor for shard in r1.shards[kept] for tensor in shard.tensors)
    result = ask(part)
    assert (result.kind, result.name, result.exact) == ("full", "DeepSeek-R1", False)
    assert result.certainty is Certainty.PART
    assert f"{len(part):,} of 91,991 tensors are here, all of them equal" in result.headline()
    assert "what the missing tensors are" in result.cannot_tell


def test_one_changed_tensor_is_an_altered_copy(ask, r1):
    tensors = list(r1.inventory())
    tensors[7] = tensors[7]._replace(shape=(1, 2, 3))
    result = ask(Inventory(tensors))
    assert (result.name, result.exact) == ("DeepSeek-R1", False)
    assert result.certainty is Certainty.ALTERED
    assert "91,990 of 91,991" in result.headline()


def test_a_copy_in_other_dtypes_is_said_to_be_one(ask, config):
    value = {k: v for k, v in config("DeepSeek-R1")[0].items() if k != "quantization_config"}
    result = ask(plan_layout(value).inventory(), (value, None))
    assert (result.kind, result.name) == ("full", "DeepSeek-R1")
    assert result.candidates[0].relation is Relation.DTYPES
    assert "copy in other dtypes" in result.headline()
    assert "45,808 tensors of another dtype" in result.headline()


def test_a_cousin_with_most_modules_in_common_is_unknown(ask, config):
    cousin = config("DeepSeek-R1")[0] | {
        "num_attention_heads": 64,
        "n_routed_experts": 384,
        "first_k_dense_replace": 1,
        "vocab_size": 163_840,
        "num_nextn_predict_layers": 0,
    }
    result = ask(plan_layout(cousin).inventory(), (cousin, None))
    assert (result.kind, result.name) == ("unknown", None)
    assert result.certainty is Certainty.NONE
    assert result.headline().startswith("no known model: 61 layers, hidden size 7,168")


def test_a_few_norms_are_no_evidence(ask, r1):
    few = [tensor for tensor in r1.inventory() if tensor.name.endswith("norm.weight")][:10]
    assert ask(Inventory(few)).name is None


def test_nothing_is_unknown(ask):
    result = ask(Inventory([]))
    assert (result.kind, result.name) == ("unknown", None)
    assert result.headline() == "no tensors to tell a model by"


def test_without_manifests_nothing_is_known(r1):
    result = identify(r1.inventory(), config=None, config_sha256=None, file_sizes={}, manifests=[])
    assert result.name is None
    assert result.candidates == ()
