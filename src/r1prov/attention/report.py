"""What was found of the attention of one model or two: values for `render`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import r1prov

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from r1prov.attention.difference import Difference
    from r1prov.attention.model import Verification
    from r1prov.family.attention import AttentionShape

_CANNOT_TELL_HEADERS: Final = (
    "which release the weights are: other models have the same heads and layers",
)
_CANNOT_TELL_ENTROPY: Final = (
    "how a model attends to other prompts: entropy depends on the prompts",
    "whether two models are the same: equal entropies prove nothing, other weights can have them",
    "which of two models is right, or why they differ: quantization, fine-tuning and a swap all "
    "move entropies",
)


@dataclass(frozen=True, slots=True)
class Described:
    """A model by its headers.

    Attributes:
        location: Where it is.
        shape: Its attention.
        malformed: Weight files whose header cannot be read, and why.
    """

    location: str
    shape: AttentionShape
    malformed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The attention entropies of one model.

    Attributes:
        location: Where the model is.
        verification: What is known of its bytes.
        tokenizer: Where its tokenizer comes from.
        tokenizer_sha256: Digest of that.
        names_code: Whether its config names code, which was not run.
        prompts: Names of the prompts.
        tokens: Tokens of each prompt.
        heads: Normalized entropies, one array a prompt; shape (layers, heads, rows). NaN for rows
            with one visible key.
        nats: The same in nats.
        averaged: Normalized entropies of the mean over the heads; shape (layers, rows).
    """

    location: str
    verification: Verification
    tokenizer: str
    tokenizer_sha256: str
    names_code: bool
    prompts: tuple[str, ...]
    tokens: tuple[int, ...]
    heads: Sequence[NDArray[np.float32]]
    nats: Sequence[NDArray[np.float32]]
    averaged: Sequence[NDArray[np.float32]]

    @property
    def rows(self) -> int:
        """Query rows that count, of each head."""
        import numpy as np

        return sum(int((~np.isnan(one[0, 0])).sum()) for one in self.heads)

    def head_means(self) -> NDArray[np.float64]:
        """Mean normalized entropy of each head; shape (layers, heads)."""
        return _means(self.heads, self.heads)

    def head_nats(self) -> NDArray[np.float64]:
        """The same in nats, over the same rows."""
        return _means(self.nats, self.heads)

    def averaged_means(self) -> NDArray[np.float64]:
        """Mean normalized entropy of the averaged heads; shape (layers,)."""
        return _means(self.averaged, self.averaged)


def _means(
    values: Sequence[NDArray[np.float32]], counted: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Means over the rows of all prompts that are no NaN in `counted`."""
    import numpy as np

    total: NDArray[np.float64] | float = 0.0
    rows = 0
    for value, one in zip(values, counted, strict=True):
        kept = ~np.isnan(one.reshape(-1, one.shape[-1])[0])
        total = total + value[..., kept].sum(axis=-1, dtype=np.float64)
        rows += int(kept.sum())
    return np.asarray(total, np.float64) / rows


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionReport:
    """All of it.

    Attributes:
        models: One model or two, by their headers.
        shapes_differ: How the headers of two models differ; empty if they pair head by head.
        profiles: What was measured, a model each.
        difference: The second minus the first.
        not_compared: Why there is no difference although one was asked for.
    """

    models: tuple[Described, ...]
    shapes_differ: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    difference: Difference | None = None
    not_compared: tuple[str, ...] = ()
    version: str = r1prov.__version__

    @property
    def exit_status(self) -> int:
        """1 where headers contradict a config or cannot be read, 3 where nothing was compared."""
        if any(one.shape.contradictions or one.malformed for one in self.models):
            return 1
        return 3 if self.not_compared else 0

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """What this leaves open."""
        return _CANNOT_TELL_HEADERS + (_CANNOT_TELL_ENTROPY if self.profiles else ())
