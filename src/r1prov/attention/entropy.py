"""Entropy of attention, one head and one query row at a time.

A row of attention is a distribution over the keys that its query sees. Its entropy says over how
many of them it is spread: 0 for one key, `ln n` for n keys alike. Rows of other lengths are made
comparable by dividing by the logarithm of the visible keys, and a row with one visible key has no
choice, hence no entropy to speak of: it is left out.

Averaging the heads first gives another number. Entropy is concave, so the entropy of the mean is at
least the mean of the entropies (Jensen), and the difference, the generalized Jensen-Shannon
divergence of the heads, is large exactly where sharp heads look at different keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RowEntropies:
    """Entropies of some query rows, in nats.

    Attributes:
        heads: Of each head and row; shape (heads, rows).
        averaged: Of the mean of all heads' distributions; shape (rows,).
        visible: Keys that each row sees; shape (rows,).
    """

    heads: NDArray[np.float64]
    averaged: NDArray[np.float64]
    visible: NDArray[np.int64]

    def normalized(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Heads and averaged, each as a share of the logarithm of the visible keys: 0 to 1.

        Rows with one visible key are NaN.
        """
        import numpy as np

        most = np.log(self.visible.astype(np.float64))
        most[self.visible < 2] = np.nan
        return self.heads / most, self.averaged / most


def row_entropies(
    scores: NDArray[np.floating], visible: NDArray[np.bool_] | None = None
) -> RowEntropies:
    """Entropies of the softmax of scores, computed in double precision.

    Args:
        scores: Scaled products of queries and keys, before the softmax; shape (heads, rows, keys).
        visible: Which keys each row sees, the same for all heads; shape (rows, keys). None means
            all of them.

    Raises:
        InputError: A visible score is not finite, or a row sees no key.
    """
    import numpy as np

    exact = np.asarray(scores, dtype=np.float64)
    _, rows, keys = exact.shape
    mask = np.ones((rows, keys), dtype=bool) if visible is None else visible
    counts = mask.sum(axis=1)
    if rows and not counts.min(initial=keys):
        raise InputError("a query sees no key")
    # What a mask hides is not looked at: a fill of any value, infinite too, changes nothing.
    hidden = np.where(mask, exact, 0.0)
    if not np.isfinite(hidden).all():
        raise InputError("attention scores are not finite")
    shifted = np.where(mask, exact, -np.inf)
    shifted -= shifted.max(axis=2, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(axis=2)
    weights /= total[:, :, None]
    # H = ln Z - sum p s: no logarithm of a weight that underflowed.
    entropies = np.log(total) - np.einsum("hrk,hrk->hr", weights, np.where(mask, shifted, 0.0))
    mean = weights.mean(axis=0)
    logs = np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    averaged = -(mean * logs).sum(axis=1)
    return RowEntropies(np.maximum(entropies, 0.0), np.maximum(averaged, 0.0), counts)
