from __future__ import annotations

import hashlib
import random

import pytest

from r1prov.errors import FormatError
from r1prov.formats.inventory import Inventory, Tensor

TENSORS = (
    Tensor("b.weight", "BF16", (2, 3), "1", 0, 12),
    Tensor("a.weight", "F8_E4M3", (4,), "1", 12, 16),
    Tensor("a", "F32", (), "2", 0, 4),
    Tensor("é", "F32", (0, 5), "2", 4, 4),
)


def test_digest_is_the_documented_one() -> None:
    text = "r1prov/inventory/1\na\tF32\t\na.weight\tF8_E4M3\t4\nb.weight\tBF16\t2,3\né\tF32\t0,5\n"
    assert Inventory(TENSORS).digest() == hashlib.sha256(text.encode()).hexdigest()


def test_digest_does_not_depend_on_order_or_sharding() -> None:
    shuffled = list(TENSORS)
    random.Random(1).shuffle(shuffled)
    moved = [tensor._replace(file="other", begin=0, end=0) for tensor in shuffled]
    assert Inventory(moved).digest() == Inventory(TENSORS).digest()


@pytest.mark.parametrize(
    "changed",
    [
        TENSORS[:3],
        (*TENSORS, TENSORS[0]),
        (*TENSORS[:3], TENSORS[3]._replace(dtype="U8")),
        (*TENSORS[:3], TENSORS[3]._replace(shape=(5, 0))),
        (*TENSORS[:3], TENSORS[3]._replace(name="e")),
        (*TENSORS, Tensor("new", "U8", (0,), "1", 0, 0), Tensor("new", "U8", (0,), "2", 0, 0)),
    ],
)
def test_digest_sees_every_change(changed: tuple[Tensor, ...]) -> None:
    assert Inventory(changed).digest() != Inventory(TENSORS).digest()


@pytest.mark.parametrize("name", ["a\tF32\t1\nb", "a\n", "\t", "\ud800"])
def test_digest_refuses_names_that_could_forge_a_line(name: str) -> None:
    with pytest.raises(FormatError):
        Inventory([TENSORS[0]._replace(name=name)]).digest()


def test_figures() -> None:
    inventory = Inventory(TENSORS)
    assert [tensor.name for tensor in inventory] == ["a", "a.weight", "b.weight", "é"]
    assert len(inventory) == 4
    assert inventory.elements == 6 + 4 + 1
    assert inventory.data_bytes == 20
    assert inventory.dtypes() == {"BF16": 1, "F32": 2, "F8_E4M3": 1}
    assert list(inventory.dtypes()) == sorted(inventory.dtypes())
    assert inventory.get("a") == TENSORS[2]
    assert inventory.get("none") is None


def test_no_duplicate_wins() -> None:
    other = TENSORS[0]._replace(file="2", dtype="F16")
    for order in ((*TENSORS, other), (other, *TENSORS)):
        inventory = Inventory(order)
        assert inventory.duplicates == (TENSORS[0], other)
        assert inventory.get("b.weight") is None
        assert len(inventory) == 5
    assert Inventory(TENSORS).duplicates == ()
