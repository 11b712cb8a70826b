"""Read every header of a Hub repository with r1prov: `child_hub_ours.py ENDPOINT REPO`."""

from __future__ import annotations

import sys

from r1prov.stores.headers import read_headers, safetensors_paths
from r1prov.stores.hub import HubStore


def main() -> None:
    store = HubStore(sys.argv[2], endpoint=sys.argv[1], token="")
    paths = safetensors_paths(entry.path for entry in store.entries())
    headers, errors = read_headers(store, paths)
    if errors:
        raise SystemExit(str(errors))
    print(sum(len(header.tensors) for header in headers.values()))


if __name__ == "__main__":
    main()
