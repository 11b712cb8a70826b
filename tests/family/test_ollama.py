"""What a tag really holds: by digest, by header, by size, and not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from r1prov.family.ollama import FoundLayer, TagCertainty, explain_tag
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.manifest.ollama_tags import Build, load_ollama_tags
from r1prov.stores.base import EntryKind
from r1prov.stores.ollama import OllamaStore

ROOT = Path(__file__).parents[2]
TAGS = load_ollama_tags().tags
BUILDS = {build.id: build for build in TAGS.builds}


@dataclass
class Header:
    """What the reader of GGUF headers offers."""

    name: str | None = None
    kind: str | None = None
    quantization: str | None = None


def layers(build: Build, *, hashed: bool = True) -> list[FoundLayer]:
    return [FoundLayer(one.path, one.size or 0, one.sha256, hashed) for one in build.layers]


def test_the_question_people_ask():
    answer = explain_tag("deepseek-r1:8b", layers(BUILDS["8b-2025-01"]), TAGS)
    assert answer.summary == (
        "deepseek-r1:8b: since 2025-05 DeepSeek-R1-0528-Qwen3-8B (Q4_K_M), "
        "before 2025-05 DeepSeek-R1-Distill-Llama-8B (Q4_K_M); "
        "yours is DeepSeek-R1-Distill-Llama-8B (distill, Q4_K_M), by the SHA-256 of every layer; "
        "it is not the full R1"
    )
    assert answer.full_r1 is False
    assert answer.current is False
    assert answer.notes == (
        "deepseek-r1:8b means DeepSeek-R1-0528-Qwen3-8B now, as far as is known: pulling it gives "
        "another model",
    )
    answer = explain_tag("deepseek-r1:8b", layers(BUILDS["8b-2025-05"]), TAGS)
    assert "yours is DeepSeek-R1-0528-Qwen3-8B (distill, Q4_K_M)" in answer.summary
    assert answer.current is True
    assert answer.notes == ()


@pytest.mark.parametrize("build", TAGS.builds, ids=lambda build: build.id)
def test_every_known_build_is_recognised(build):
    answer = explain_tag("copy:latest", layers(build), TAGS)
    assert (answer.model, answer.variant) == (build.model, build.variant)
    assert answer.certainty is (TagCertainty.BUILD if build.complete else TagCertainty.MODEL_LAYER)
    assert answer.full_r1 is (build.id == "671b-2025-01")
    assert build in answer.builds
    assert answer.current is None
    assert "no record of this tag" in answer.summary


def test_the_full_model_is_called_quantized():
    answer = explain_tag("deepseek-r1:671b", layers(BUILDS["671b-2025-01"]), TAGS)
    assert answer.summary.endswith("it is the full R1, quantized: not the released weights")
    assert "the other layers of this build are not known" in answer.notes


def test_digests_that_nobody_hashed_are_called_so():
    answer = explain_tag("deepseek-r1:7b", layers(BUILDS["7b-2025-01"], hashed=False), TAGS)
    assert answer.certainty is TagCertainty.STATED
    assert "it was not hashed" in answer.summary
    found = layers(BUILDS["7b-2025-01"])
    found[1] = replace(found[1], hashed=False)
    assert explain_tag("x:y", found, TAGS).certainty is TagCertainty.MODEL_LAYER


def test_a_reissue_is_the_same_model():
    answer = explain_tag("deepseek-r1:14b", layers(BUILDS["14b-2025-01"]), TAGS)
    assert answer.history == ("since 2025-01 DeepSeek-R1-Distill-Qwen-14B (Q4_K_M)",)
    assert answer.current is False
    assert answer.notes == (
        "deepseek-r1:14b was issued again since, with the same model and another template",
    )
    assert explain_tag("deepseek-r1:14b", layers(BUILDS["14b-reissued"]), TAGS).current is True


def test_the_same_model_with_another_system_prompt():
    found = [*layers(BUILDS["7b-2025-01"]), FoundLayer("system", 5, "0" * 64, hashed=True)]
    answer = explain_tag("sarcastic:latest", found, TAGS)
    assert answer.certainty is TagCertainty.MODEL_LAYER
    assert answer.model == "DeepSeek-R1-Distill-Qwen-7B"
    assert "with other layers (system)" in answer.notes[0]


def test_another_model_under_a_known_tag():
    answer = explain_tag("deepseek-r1:671b", layers(BUILDS["1.5b-2025-01"]), TAGS)
    assert answer.full_r1 is False
    assert answer.notes == (
        "deepseek-r1:671b never held DeepSeek-R1-Distill-Qwen-1.5B, as far as is known",
    )


def test_a_size_proves_nothing():
    answer = explain_tag("deepseek-r1:7b", [FoundLayer("model.gguf", 4_683_073_184)], TAGS)
    assert answer.certainty is TagCertainty.SIZE
    assert (answer.model, answer.variant, answer.full_r1, answer.current) == (None,) * 4
    assert "the size of DeepSeek-R1-Distill-Qwen-7B, which proves nothing" in answer.summary
    # A blob of the right size and another digest is not even alike.
    changed = FoundLayer("model.gguf", 4_683_073_184, "0" * 64, hashed=True)
    answer = explain_tag("deepseek-r1:7b", [changed], TAGS)
    assert answer.certainty is TagCertainty.NONE
    assert "yours is unknown" in answer.summary
    assert "or an altered one" in answer.notes[0]


def test_an_unknown_tag_of_an_unknown_model():
    answer = explain_tag("a:b", [FoundLayer("model.gguf", 1, "0" * 64, hashed=True)], TAGS)
    assert answer.summary == (
        "a:b: no record of this tag; yours is unknown: its model layer is that of no known build; "
        "whether it is the full R1 is not known"
    )
    assert answer.notes == ()


def test_a_header_answers_where_no_digest_does():
    unknown = [FoundLayer("model.gguf", 1, "0" * 64, hashed=True)]
    header = Header("DeepSeek-R1-Distill-Qwen-7B", "distill", "Q8_0")
    answer = explain_tag("deepseek-r1:7b-q8", unknown, TAGS, header=header)
    assert answer.certainty is TagCertainty.HEADER
    assert "yours is DeepSeek-R1-Distill-Qwen-7B (distill, Q8_0), by its GGUF header alone" in (
        answer.summary
    )
    assert answer.full_r1 is False
    answer = explain_tag("deepseek-r1:671b", unknown, TAGS, header=header)
    assert "deepseek-r1:671b never held DeepSeek-R1-Distill-Qwen-7B" in answer.notes[0]
    # V3 and R1-0528 have the header of R1.
    full = Header("DeepSeek-R1", "full", "Q4_K_M")
    assert explain_tag("r1:big", unknown, TAGS, header=full).full_r1 is None
    nothing = explain_tag("r1:big", unknown, TAGS, header=Header(quantization="Q4_1"))
    assert nothing.certainty is TagCertainty.NONE
    assert nothing.quantization == "Q4_1"


def test_a_header_is_stronger_than_a_size_and_weaker_than_a_digest():
    header = Header("DeepSeek-V3", "base", "Q4_K_M")
    size_only = [FoundLayer("model.gguf", 4_683_073_184)]
    assert explain_tag("a:b", size_only, TAGS, header=header).model == "DeepSeek-V3"
    answer = explain_tag("a:b", layers(BUILDS["7b-2025-01"]), TAGS, header=header)
    assert answer.model == "DeepSeek-R1-Distill-Qwen-7B"
    assert "one of the two was misread" in answer.notes[0]


def test_split_and_missing_models():
    two = [FoundLayer("model-1.gguf", 1, "0" * 64), FoundLayer("model-2.gguf", 1, "1" * 64)]
    assert explain_tag("a:b", two, TAGS).notes == (
        "the model is split into 2 layers, which no known build is",
    )
    # A part of a known model does not make the whole known.
    first = replace(layers(BUILDS["7b-2025-01"])[0], path="model-1.gguf")
    assert explain_tag("a:b", [first, two[1]], TAGS).certainty is TagCertainty.NONE
    assert explain_tag("a:b", [], TAGS).notes == ("the tag has no model layer",)


# REPORT of the facts: digests that public files ascribe to something else.


@pytest.mark.parametrize(
    ("sha256", "called", "really"),
    [
        (
            "9801e7fce27dbf3d0bfb468b7b21f1d132131a546dfc43e50518631b8b1800a9",
            "deepseek-r1:1.5b",
            "DeepSeek-R1",
        ),
        (
            "6150cb382311b69f09cc0f9a1b69fc029cbd742b66bb8ec531aa5ecf5c613e93",
            "qwen2.5:32b",
            "DeepSeek-R1-Distill-Qwen-32B",
        ),
    ],
)
def test_mislabelled_model_layers(sha256, called, really):
    found = [FoundLayer("model.gguf", 1, sha256, hashed=True)]
    answer = explain_tag(called, found, TAGS)
    assert answer.model == really
    assert f"calls this digest `{called}`; it is the model layer of" in answer.notes[-1]


def test_mislabelled_manifests():
    manifest = "0a8c266910232fd3291e71e5ba1e058cc5af9d411192cf88b6d30e92b6e73163"
    found = layers(BUILDS["7b-2025-01"])
    answer = explain_tag("qwen3-coder:30b", found, TAGS, manifest_sha256=manifest)
    assert answer.model == "DeepSeek-R1-Distill-Qwen-7B"
    assert answer.notes[-1].endswith("it is the manifest of deepseek-r1:7b")
    made_up = "28f8fd6cdc677661426adab9338ce3c013d7e69a5bea9e704b36418a2f4ef7cf"
    answer = explain_tag("deepseek-r1:8b", [], TAGS, manifest_sha256=made_up)
    assert "no known file" in answer.notes[0]


# A tag as it lies on disk


def test_a_pulled_tag_on_disk(tmp_path):
    """The published manifest of deepseek-r1:7b; of its blobs the config, and another model."""
    spec = importlib.util.spec_from_file_location(
        "generate_ollama", ROOT / "manifests" / "generate_ollama.py"
    )
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    facts = json.loads((ROOT / "manifests" / "facts" / "ollama.json").read_bytes())
    fact = next(b for b in facts["builds"] if b["id"] == "7b-reissued")
    config, manifest = generate.rebuild(fact, facts["blobs"])
    path = tmp_path / "manifests" / "registry.ollama.ai" / "library" / "deepseek-r1" / "7b"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / f"sha256-{hashlib.sha256(config).hexdigest()}").write_bytes(config)
    model = BUILDS["7b-reissued"].model_layer
    (blobs / f"sha256-{model.sha256}").write_bytes(b"GGUF of another model")

    store = OllamaStore("deepseek-r1:7b", tmp_path)
    assert store.manifest_sha256 == BUILDS["7b-reissued"].manifest_sha256
    stated = [FoundLayer(one.path, one.size, one.sha256) for one in store.manifest.layers]
    answer = explain_tag(store.name, stated, TAGS, manifest_sha256=store.manifest_sha256)
    assert answer.certainty is TagCertainty.STATED
    assert answer.current is True
    assert answer.model == "DeepSeek-R1-Distill-Qwen-7B"

    jobs = [HashJob(e.path, e.size) for e in store.entries() if e.kind is EntryKind.FILE]
    digests = hash_blobs(store.open, jobs).digests
    assert digests.keys() == {"config.json", "model.gguf"}
    found = [FoundLayer(d.path, d.size, d.sha256, hashed=True) for d in digests.values()]
    answer = explain_tag(store.name, found, TAGS)
    assert answer.certainty is TagCertainty.NONE
    assert "or an altered one" in answer.notes[0]
