"""The same look with r1prov: strict headers, an inventory and its digest. No hashing of data."""

import sys

from r1prov.formats.inventory import Inventory, Tensor
from r1prov.formats.safetensors import read_header
from r1prov.stores.local import LocalStore


def main() -> None:
    store = LocalStore(sys.argv[1])
    tensors: list[Tensor] = []
    for entry in store.entries():
        if entry.path.endswith(".safetensors"):
            with store.open(entry.path) as blob:
                tensors += read_header(blob.read_at, blob.size, file=entry.path).tensors
    inventory = Inventory(tensors)
    if not len(inventory):
        raise SystemExit("no tensors")
    inventory.digest()


main()
