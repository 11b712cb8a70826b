"""Read objects of a bucket: `child_objects.py LIBRARY TASK`, with the endpoint in AWS_ENDPOINT_URL.

Tasks: `import`; `headers`, the first 256 KiB of 163 objects; `stream`, SHA-256 of one object;
`two`, SHA-256 of two objects at once.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

KEYS = [f"m/model-{number:05}-of-00163.safetensors" for number in range(1, 164)]
HEADER = 256 * 1024
CHUNK = 8 * 1024 * 1024


def obstore(task: str) -> None:
    import obstore as library
    from obstore.store import S3Store

    store = S3Store("bucket", client_options={"allow_http": True})

    def digest(key: str) -> None:
        total = hashlib.sha256()
        for chunk in library.get(store, key).stream(min_chunk_size=CHUNK):
            total.update(chunk)

    if task == "headers":
        for key in KEYS:
            library.get_range(store, key, start=0, length=HEADER)
    elif task != "import":
        run(digest, task)


def s3fs(task: str) -> None:
    from s3fs import S3FileSystem

    files = S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    )

    def digest(key: str) -> None:
        total = hashlib.sha256()
        with files.open(f"bucket/{key}", block_size=CHUNK) as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)

    if task == "headers":
        for key in KEYS:
            files.cat_file(f"bucket/{key}", start=0, end=HEADER)
    elif task != "import":
        run(digest, task)


def r1prov(task: str) -> None:
    from r1prov.hashing.engine import HashJob, hash_blobs
    from r1prov.stores.object_store import ObjectStore

    store = ObjectStore("s3://bucket/m")
    names = [key.removeprefix("m/") for key in KEYS]
    if task == "headers":
        for name in names:
            with store.open(name) as blob:
                blob.read_at(0, HEADER)
    elif task != "import":
        with store.open(names[0]) as blob:
            size = blob.size
        jobs = [HashJob(name, size) for name in names[: 2 if task == "two" else 1]]
        errors = hash_blobs(store.open, jobs).errors
        if errors:
            raise SystemExit(str(errors))


def run(digest: Callable[[str], None], task: str) -> None:
    keys = KEYS[: 2 if task == "two" else 1]
    with ThreadPoolExecutor(len(keys)) as threads:
        list(threads.map(digest, keys))


{"obstore": obstore, "s3fs": s3fs, "r1prov": r1prov}[sys.argv[1]](sys.argv[2])
