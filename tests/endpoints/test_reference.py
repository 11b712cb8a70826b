"""The table of counts: made of real tokenizers, byte for byte, and enough to tell them apart."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from r1prov.endpoints.tokens.fit import exact_fit, scaled_fit
from r1prov.endpoints.tokens.reference import token_reference
from r1prov.errors import UsageError
from r1prov.manifest.shelf import load_shelf

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "src/r1prov/endpoints/tokens/reference_counts.json"
# Counts measured elsewhere, with other code.
MEASURED = json.loads((ROOT / "tests/vectors/api/token_probe.json").read_text())
SAME = {"base": "A_base", "digits": "B_digits300", "armenian": "D_armenian",
        "georgian": "E_georgian", "japanese": "K_ja"}  # fmt: skip
FIRST = ("base", "digits", "armenian")
FIVE = (*FIRST, "english", "japanese")


def test_the_table_is_what_the_tokenizers_count(tokenizer_packages):
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate_token_reference.py", tokenizer_packages],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == SHIPPED.read_bytes()


@pytest.mark.parametrize("probe", SAME)
def test_the_table_agrees_with_other_measurements(probe):
    reference = token_reference()
    theirs = MEASURED["amplified"]["counts"][SAME[probe]]
    assert reference.probe(probe).text == MEASURED["amplified"]["texts"][SAME[probe]]
    for model, count in theirs.items():
        assert reference.family_of(model).counts[probe] == count


def test_families_agree_with_other_measurements():
    # 236 plain probes there, six here.
    theirs = {frozenset(one) for one in MEASURED["families_on_236_plain_probes"]}
    ours = [set(one.members) for one in token_reference().counters if one.tokenizer]
    assert len(ours) == len(theirs) == 10
    for family in theirs:
        known = {one for one in family if one in token_reference().tokenizer_sha256}
        assert any(known <= one for one in ours), family


def test_tokenizers_are_those_of_the_measurements_and_of_the_manifests():
    known = token_reference().tokenizer_sha256
    for model, source in MEASURED["provenance"].items():
        if model in known:
            assert known[model] == source["tokenizer_json_sha256"]
    shelf = load_shelf()
    for name, model in (
        ("DeepSeek-R1", "deepseek-r1"),
        ("DeepSeek-V3", "deepseek-v3"),
        ("DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1-distill-qwen-7b"),
        ("DeepSeek-R1-Distill-Llama-8B", "deepseek-r1-distill-llama-8b"),
        ("DeepSeek-R1-0528-Qwen3-8B", "deepseek-r1-0528-qwen3-8b"),
    ):
        item = shelf.find(name)
        assert item is not None
        (file,) = (one for one in item.manifest.files if one.path == "tokenizer.json")
        assert file.sha256 == known[model]


def test_the_encodings_of_openai_are_the_published_ones():
    # `expected_hash` of `tiktoken_ext/openai_public.py` in tiktoken 0.14.0.
    table = json.loads(SHIPPED.read_text())["estimators"]
    assert {name: one["ranks_sha256"] for name, one in table.items()} == {
        "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    }


def test_figures_of_the_issue():
    difference = {
        one.name: (one.counts["digits"], one.counts["armenian"])
        for one in token_reference().counters
    }
    assert difference["deepseek-v3"] == (100, 205)
    assert difference["qwen2"] == (300, 587)
    assert difference["llama-3"] == (100, 995)
    for template, overhead in MEASURED["template_overhead"].items():
        if template in token_reference().overheads:
            assert token_reference().overheads[template] == overhead["constant"]


def test_no_other_counter_passes_for_r1():
    reference = token_reference()
    r1 = reference.family_of("DeepSeek-R1")
    for other in reference.counters:
        if other is not r1:
            fit = exact_fit(r1, {name: other.counts[name] for name in FIRST})
            assert fit.residual >= 13, other.name  # 3 are let pass
            assert not other.tokenizer or fit.residual >= 99


def test_five_probes_tell_every_counter_apart_scaled_or_not():
    for one, other in permutations(token_reference().counters, 2):
        seen = {name: one.counts[name] for name in FIVE}
        scaled = scaled_fit(other, seen)
        for fit in (exact_fit(other, seen), scaled):
            assert fit is None or fit.residual > 4 * fit.tolerance, (one.name, other.name)


def test_names_of_manifests_lead_to_their_tokenizer():
    reference = token_reference()
    for name, family in (
        ("DeepSeek-R1", "deepseek-v3"),
        ("DeepSeek-R1-0528", "deepseek-v3"),
        ("DeepSeek-R1-0528-Qwen3-8B", "qwen2"),
        ("DeepSeek-R1-Distill-Qwen-32B", "qwen2"),
        ("DeepSeek-R1-Distill-Llama-70B", "llama-3"),
    ):
        assert reference.family_of(name).name == family
    with pytest.raises(UsageError, match="no reference counts for the model `gpt-2`"):
        reference.family_of("gpt-2")
