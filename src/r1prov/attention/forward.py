"""A model in torch whose attention is looked at while it computes: no layer's weights are kept.

The model is transformers' own class with an attention function of ours, which computes what the
`eager` one does in blocks of query rows and hands each block's scores to `entropy`. What is kept
are two numbers a head and row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from r1prov.attention.config import ARCHITECTURES, settings
from r1prov.attention.entropy import row_entropies
from r1prov.errors import InputError, LimitExceeded, R1ProvError, UsageError
from r1prov.limits import ATTENTION_BLOCK_ROWS
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from r1prov.attention.model import LocalModel

EXTRA: Final = "install r1prov[torch]"
_NAME: Final = "r1prov"
# Arguments that change the scores in a way that is not computed here.
_REFUSED: Final = ("softcap", "s_aux", "position_bias")


class LayerRows:
    """Entropies that one prompt had, filled in as the layers compute.

    Attributes:
        heads: Normalized entropies; shape (layers, heads, rows).
        nats: The same in nats.
        averaged: Normalized entropies of the mean over heads; shape (layers, rows).
        visible: Keys that each row sees in the first layer; shape (rows,).
    """

    def __init__(self, layers: int, heads: int, rows: int) -> None:
        import numpy as np

        self.heads: NDArray[np.float32] = np.full((layers, heads, rows), np.nan, np.float32)
        self.nats: NDArray[np.float32] = np.full((layers, heads, rows), np.nan, np.float32)
        self.averaged: NDArray[np.float32] = np.full((layers, rows), np.nan, np.float32)
        self.visible: NDArray[np.int64] = np.zeros((layers, rows), np.int64)
        self.seen = [0] * layers

    def take(
        self, layer: int, first: int, scores: NDArray[np.floating], mask: NDArray[np.bool_] | None
    ) -> None:
        """Reduce the scores of some rows of a layer.

        Args:
            layer: Number of the layer.
            first: Number of the first row.
            scores: Shape (heads, rows, keys).
            mask: Visible keys, shape (rows, keys); None means all.
        """
        try:
            found = row_entropies(scores, mask)
        except InputError as error:
            raise InputError(f"layer {layer:,}: {error.message}") from None
        rows = slice(first, first + scores.shape[1])
        self.heads[layer, :, rows], self.averaged[layer, rows] = found.normalized()
        self.nats[layer, :, rows] = found.heads
        self.visible[layer, rows] = found.visible
        self.seen[layer] += scores.shape[1]


class TorchModel:
    """A model that is loaded.

    Args:
        model: One that was captured.

    Raises:
        UsageError: torch or transformers is missing, or cannot build the model.
        InputError: A weight is not finite, or the config is refused.
        LimitExceeded: There is no memory for it.
    """

    def __init__(self, model: LocalModel) -> None:
        self._torch, transformers = modules()
        self._layers, self._heads = model.shape.layers or 0, model.shape.heads or 0
        self._location = model.location
        self._vocabulary = model.config.get("vocab_size")
        self._rows: LayerRows | None = None
        _register(transformers)
        try:
            self._body = self._load(model, transformers)
        except R1ProvError:
            raise
        except MemoryError:
            raise LimitExceeded(
                "there is no memory for the weights", subject=model.location
            ) from None
        except Exception as error:  # noqa: BLE001 - transformers raises whatever a config leads to
            raise InputError(
                f"transformers cannot build it: {type(error).__name__}: {error}",
                subject=model.location,
            ) from None

    def _load(self, model: LocalModel, transformers: ModuleType) -> Any:  # noqa: ANN401 - a module of torch
        torch = self._torch
        name = ARCHITECTURES[model.kind][0]
        body_class = getattr(transformers, name)
        config = body_class.config_class(**settings(model.config, model.kind))
        state = {}
        for tensor, values in model.weights():
            # Of layers for multi-token prediction and of the head nothing is computed.
            if _outside(tensor, self._layers):
                continue
            weights = torch.from_numpy(values)
            # Of finite single-precision numbers no sum of doubles overflows.
            if not math.isfinite(weights.sum(dtype=torch.float64).item()):
                raise InputError(
                    f"tensor {quoted(tensor)} has a value that is not finite",
                    subject=model.location,
                )
            state[tensor] = weights
        body, loaded = body_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            attn_implementation=_NAME,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
        # What a model lacks transformers fills with random numbers. Nothing is measured behind the
        # pooler of BERT.
        odd = {str(key) for kind in loaded.values() for key in kind}
        odd = {key for key in odd if not key.startswith("pooler.")}
        if odd:
            raise UsageError(
                f"transformers does not take the tensors as they are: {quoted(min(odd))}",
                subject=model.location,
                hint="this version of transformers is not one that r1prov[torch] works with",
            )
        body.eval()
        factors = model.rope_factors()
        if factors is not None:
            frequencies = body.rotary_emb.inv_freq
            if frequencies.shape != factors.shape or not bool((factors > 0).all()):
                raise InputError("factors of rotation do not fit the head size")
            body.rotary_emb.inv_freq = frequencies / torch.from_numpy(factors.copy())
        return body

    def measure(self, ids: Sequence[int]) -> LayerRows:
        """The entropies of one prompt.

        Raises:
            InputError: A token that the model does not have, or scores that are not finite.
            LimitExceeded: There is no memory for it.
        """
        torch = self._torch
        if not isinstance(self._vocabulary, int) or max(ids) >= self._vocabulary:
            raise InputError(
                f"token {max(ids):,} is beyond the vocabulary of {self._vocabulary}",
                subject=self._location,
                hint="is the tokenizer that of the model?",
            )
        rows = LayerRows(self._layers, self._heads, len(ids))
        _Looking.at = rows
        try:
            with torch.no_grad():
                self._body(input_ids=torch.tensor([list(ids)]), **self._arguments())
        except R1ProvError as error:
            error.subject = error.subject or self._location
            raise
        except MemoryError:
            raise LimitExceeded(
                "there is no memory for this prompt", subject=self._location
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever a model of strange settings leads to
            raise InputError(
                f"the model fails: {type(error).__name__}: {error}", subject=self._location
            ) from None
        finally:
            _Looking.at = None
        if rows.seen != [len(ids)] * self._layers:
            raise UsageError(
                "not every layer's attention was seen",
                subject=self._location,
                hint="this version of transformers is not one that r1prov[torch] works with",
            )
        return rows

    def _arguments(self) -> dict[str, object]:
        return {} if self._body.config.model_type == "bert" else {"use_cache": False}


class _Looking:
    """What the attention function fills in; transformers calls it by name, so this is global."""

    at: LayerRows | None = None


def modules() -> tuple[Any, ModuleType]:
    """Torch and transformers.

    Raises:
        UsageError: Either is missing.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UsageError(
            f"attention entropy needs {error.name or 'torch'}, which is not installed", hint=EXTRA
        ) from None
    return torch, transformers


def _register(transformers: ModuleType) -> None:
    from transformers.masking_utils import eager_mask

    transformers.AttentionInterface.register(_NAME, _attend)
    transformers.AttentionMaskInterface.register(_NAME, eager_mask)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _outside(name: str, layers: int) -> bool:
    parts = name.split(".")
    if parts[0] == "lm_head" or name == "embeddings.position_ids":
        return True
    return parts[:2] == ["model", "layers"] and parts[2].isdigit() and int(parts[2]) >= layers


def _attend(
    module: Any,  # noqa: ANN401 - a module of torch
    query: Any,  # noqa: ANN401 - tensors of torch
    key: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    attention_mask: Any,  # noqa: ANN401
    scaling: float | None = None,
    **more: object,
) -> tuple[Any, None]:
    """Attention as `eager_attention_forward` of transformers computes it, looked at on the way.

    Args:
        module: The attention module.
        query: Shape (1, heads, rows, head size).
        key: Shape (1, key-value heads, keys, head size).
        value: Shape (1, key-value heads, keys, value size).
        attention_mask: Added to the scores, shape (1, 1, rows, keys): 0 where a key is visible and
            the lowest number elsewhere; None where all are.
        scaling: Of the scores.
        more: What else the model passes.
    """
    import torch

    rows = _Looking.at
    for name in _REFUSED:
        if more.get(name) is not None:
            raise UsageError(f"attention with `{name}` is not measured")
    heads = query.shape[1]
    keys = key[0].repeat_interleave(heads // key.shape[1], dim=0)
    values = value[0].repeat_interleave(heads // value.shape[1], dim=0)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = []
    for first in range(0, query.shape[2], ATTENTION_BLOCK_ROWS):
        block = slice(first, first + ATTENTION_BLOCK_ROWS)
        scores = torch.matmul(query[0, :, block], keys.transpose(1, 2)) * scale
        visible = None
        if attention_mask is not None:
            mask = attention_mask[0, 0, block, : scores.shape[-1]]
            visible = (mask == 0).numpy()
        if rows is not None:
            rows.take(module.layer_idx, first, scores.numpy(), visible)
        if attention_mask is not None:
            scores = scores + mask
        parts.append(torch.matmul(torch.softmax(scores, dim=-1), values))
    output = torch.cat(parts, dim=1)
    return output.transpose(0, 1)[None].contiguous(), None
