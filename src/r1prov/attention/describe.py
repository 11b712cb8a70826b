"""The attention of a model from what was gathered of it: headers and config, no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import UsageError
from r1prov.family.attention import AttentionShape, attention_shape, gguf_figures
from r1prov.family.gguf_model import GgufModel, join_gguf

if TYPE_CHECKING:
    from r1prov.verify.evidence import Evidence

GGUF_SOURCE = "GGUF metadata"


def describe(evidence: Evidence) -> AttentionShape:
    """Heads, layers and ranks of the model: its safetensors files, else its largest GGUF model.

    Raises:
        UsageError: There is no weight file with a well-formed header.
    """
    if evidence.headers:
        inventory = evidence.inventory(evidence.loadable_weights())
        return attention_shape(inventory, evidence.config or {})
    model = gguf_model(evidence)
    return attention_shape(model.inventory, gguf_figures(model.first), source=GGUF_SOURCE)


def gguf_model(evidence: Evidence) -> GgufModel:
    """The largest GGUF model.

    Raises:
        UsageError: There is none.
    """
    models = join_gguf(evidence.gguf)
    if not models:
        raise UsageError(
            "there is no safetensors or GGUF file with a well-formed header",
            subject=evidence.store.location,
        )
    return models[0]
