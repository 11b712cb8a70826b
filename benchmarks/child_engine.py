"""`hash_blobs` over a directory, with two threads."""

import sys

from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.local import LocalStore


def main() -> None:
    store = LocalStore(sys.argv[1])
    jobs = [HashJob(entry.path, entry.size) for entry in store.entries()]
    result = hash_blobs(store.open, jobs, workers=2)
    if result.errors:
        raise SystemExit(str(result.errors))


main()
