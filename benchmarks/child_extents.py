"""`hash_blobs` over a directory, with two threads and a digest for each tensor."""

import sys

from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.headers import read_headers, safetensors_paths, tensor_extents
from r1prov.stores.local import LocalStore


def main() -> None:
    store = LocalStore(sys.argv[1])
    sizes = {entry.path: entry.size for entry in store.entries()}
    headers, errors = read_headers(store, safetensors_paths(sizes))
    jobs = [
        HashJob(
            path,
            size,
            extents=tensor_extents(headers[path], size=size) if path in headers else (),
        )
        for path, size in sizes.items()
    ]
    result = hash_blobs(store.open, jobs, workers=2)
    if result.errors or errors:
        raise SystemExit(str(result.errors or errors))


main()
