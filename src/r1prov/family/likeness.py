"""How the tensors of a model relate to those that a known model must have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from r1prov.errors import InputError
from r1prov.family.blueprint import ExpectedTensor, expected_inventory
from r1prov.formats.inventory import Inventory, Tensor
from r1prov.manifest.schema import Architecture
from r1prov.text import plural

# Of the larger of both sets. Models that share most modules stay well below: Kimi-K2 has 0.64 of
# its tensors in common with R1.
_NEARLY_ALL: Final = 0.9
# Of the tensors at hand, when not all of the model is.
_ALL_BUT_FEW: Final = 0.95
# A handful of norms fits many models.
_LEAST_EQUAL: Final = 16
_SCALE: Final = "_scale_inv"


class Relation(StrEnum):
    """From closest to farthest."""

    EXACT = "exact"
    ALTERED = "altered"
    PART = "part"
    DTYPES = "other dtypes"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Likeness:
    """The tensors at hand against those expected.

    Attributes:
        relation: In one word.
        score: Equal tensors as a fraction of the larger of both sets.
        detail: In one phrase.
    """

    relation: Relation
    score: float
    detail: str


_UNLIKE: Final = Likeness(Relation.OTHER, 0.0, "other tensors")


def likeness(
    inventory: Inventory, digest: str, hidden_size: int, architecture: Architecture
) -> Likeness:
    """Compare an inventory with the one that an architecture states.

    Args:
        inventory: The tensors at hand.
        digest: Its digest.
        hidden_size: What its shapes show, 0 if nothing.
        architecture: What a manifest says; its config facts are believed only if the inventory
            derived from them has the digest that the manifest states.
    """
    if digest == architecture.inventory_sha256:
        return Likeness(Relation.EXACT, 1.0, f"all {plural(len(inventory), 'tensor')} are equal")
    # Nearly every shape has the hidden size in it, so nothing can be equal if that differs.
    if hidden_size not in (0, architecture.hidden_size) or not len(inventory):
        return _UNLIKE
    try:
        expected = expected_inventory(architecture.config)
    except InputError:
        return _UNLIKE
    if expected is None or _digest(expected) != architecture.inventory_sha256:
        return _UNLIKE
    return compare_tensors(inventory, expected)


def compare_tensors(inventory: Inventory, expected: Sequence[ExpectedTensor]) -> Likeness:
    """Compare tensor by tensor: names and shapes, and with dtypes."""
    wanted = {tensor.name: tensor for tensor in expected}
    equal = same_shape = 0
    for tensor in inventory:
        want = wanted.get(tensor.name)
        if want is not None and want.shape == tensor.shape:
            same_shape += 1
            equal += want.dtype == tensor.dtype
    found, total = len(inventory), len(wanted)
    # A copy without quantization has no scales.
    core = sum(not name.endswith(_SCALE) for name in wanted)
    score = equal / max(found, total)
    few_changed = equal >= _LEAST_EQUAL and equal / found >= _ALL_BUT_FEW
    if few_changed and (equal == found or score < _NEARLY_ALL):
        which = "all of them" if equal == found else f"{equal:,} of them"
        detail = f"{found:,} of {plural(total, 'tensor')} are here, {which} equal"
        return Likeness(Relation.PART, score, detail)
    if score >= _NEARLY_ALL:
        detail = f"{equal:,} of {plural(total, 'tensor')} are equal"
        return Likeness(Relation.ALTERED, score, detail)
    if same_shape / found >= _ALL_BUT_FEW and same_shape / core >= _ALL_BUT_FEW:
        changed = same_shape - equal
        detail = f"names and shapes fit, {plural(changed, 'tensor')} of another dtype"
        return Likeness(Relation.DTYPES, score, detail)
    return Likeness(Relation.OTHER, score, f"{equal:,} of {plural(total, 'tensor')} are equal")


def _digest(expected: Sequence[ExpectedTensor]) -> str:
    return Inventory(Tensor(*tensor, "", 0, 0) for tensor in expected).digest()
