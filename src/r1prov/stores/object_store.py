"""A model in an object store: `s3://`, `gs://` or `az://`.

A bucket holds keys, not directories: most keys are also good relative paths, and those that are
not are listed so that a check can complain about them, or keep the store from being listed.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1prov.errors import LimitExceeded, NotFound, UsageError
from r1prov.limits import (
    MAX_STORE_DEPTH,
    OBJECT_RETRIES,
    OBJECT_TIMEOUT_SECONDS,
    REMOTE_HEADER_WORKERS,
)
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.object_blob import ObjectBlob, ReadAhead, fence
from r1prov.stores.object_client import SCHEMES, Listed, ObjectClient
from r1prov.stores.traffic import Traffic

_MARKER = "directory marker: an object without bytes whose key begins or ends with `/`"
_NO_PATH = "an object whose key begins or ends with `/`, which no file's path does"


class ObjectStore:
    """The objects below a prefix of a bucket, or a single object as a store with one entry.

    Endpoint, region and credentials come from the environment (`docs/object-stores.md`).

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; without a
            prefix the whole bucket.
        timeout: Seconds for one request.
        retries: How often a request that failed on the way is sent again.

    Raises:
        UsageError: `url` is of another form.
        StoreError: A package is missing, or the environment configures it wrongly.
    """

    header_workers = REMOTE_HEADER_WORKERS

    def __init__(
        self,
        url: str,
        *,
        timeout: float = OBJECT_TIMEOUT_SECONDS,
        retries: int = OBJECT_RETRIES,
    ) -> None:
        scheme, bucket, self._prefix = parse_object_url(url)
        self.location = f"{scheme}://{bucket}" + (f"/{self._prefix}" if self._prefix else "")
        self.name = self._prefix.rpartition("/")[2] or bucket
        self._client = ObjectClient(scheme, bucket, timeout=timeout, retries=retries)
        self._ahead = ReadAhead()
        self._single = False

    @property
    def traffic(self) -> Traffic:
        """What it cost so far.

        Requests that failed and were sent again count once; of a listing, as many as it has full
        pages of the store's page size, and one. Bytes are those of objects.
        """
        return self._client.traffic

    def entries(self) -> list[Entry]:
        """Everything below the prefix, sorted by path.

        Zero bytes under a key that ends with `/` are how consoles draw a directory; such an
        object is listed as `SPECIAL`, and one that has bytes as `UNREADABLE`.

        Raises:
            LimitExceeded: More entries than `MAX_STORE_ENTRIES` or deeper than `MAX_STORE_DEPTH`.
            NotFound: There is no such bucket, or nothing at the prefix.
            StoreError: The bucket cannot be listed, or holds a key that is no path.
        """
        listed = self._client.listing(self._prefix)
        if not listed and self._prefix:
            return [self._only_entry()]
        if not listed:
            raise NotFound("the bucket is empty", subject=self.location)
        self._single = False
        by_path: dict[str, list[Listed]] = {}
        for item in listed:
            path = item.key[len(self._prefix) + 1 :] if self._prefix else item.key
            if path.count("/") > MAX_STORE_DEPTH:
                raise LimitExceeded(
                    f"holds objects nested more than {MAX_STORE_DEPTH} deep", subject=path
                )
            by_path.setdefault(path, []).append(item)
        entries = self._resolve(by_path)
        return sorted(entries, key=lambda entry: entry.path.encode("utf-8", "surrogatepass"))

    def open(self, path: str) -> ObjectBlob:
        """Open the object at `path`: one request.

        Raises:
            NotFound: There is none, or `path` is not a relative path.
            StoreError: It cannot be read.
        """
        if self._single:
            if path != self.name:
                raise NotFound("no such file in the store", subject=path)
            return ObjectBlob(self._client, self._prefix, path, self._ahead)
        if not is_path(path):
            raise NotFound("not a relative path, so no file of the store", subject=path)
        key = f"{self._prefix}/{path}" if self._prefix else path
        return ObjectBlob(self._client, key, path, self._ahead)

    def _only_entry(self) -> Entry:
        stamp = self._client.heads([self._prefix])[self._prefix]
        if stamp is None:
            raise NotFound(
                "there is no object of this name, and none below it",
                subject=self.location,
                hint="list the bucket to see how the prefix is spelled; case counts",
            )
        self._single = True
        return Entry(self.name, EntryKind.FILE, stamp.size, fence=fence(stamp))

    def _resolve(self, by_path: dict[str, list[Listed]]) -> list[Entry]:
        """Tell files from objects that only look like them.

        `obstore` drops a `/` at either end of a key. What may have had one is therefore asked
        for by the name that is left: if the object is there, that is the file, and everything
        else of that name is none. An object with bytes and a name of its own needs no question:
        if its key ended with `/`, it cannot be opened by its path.
        """
        unsure = {
            items[0].key: path
            for path, items in by_path.items()
            if path and (len(items) > 1 or items[0].stamp.size == 0)
        }
        heads = self._client.heads(list(unsure))
        entries = []
        for path, items in by_path.items():
            head = heads.get(items[0].key, items[0].stamp) if path else None
            files = [item for item in items if item.stamp == head]
            if files:
                stamp = files[0].stamp
                entries.append(Entry(path, EntryKind.FILE, stamp.size, fence=fence(stamp)))
                items.remove(files[0])
            entries += self._slashed(path, items)
        return entries

    def _slashed(self, path: str, items: Sequence[Listed]) -> list[Entry]:
        entries = []
        for number, item in enumerate(items, 1):
            if not path and item.stamp.size == 0:
                continue  # marks the model's own directory, which is no entry of itself
            # A key can only have one at its start, too, where there is no prefix.
            name = path + "/" * number
            if item.stamp.size == 0:
                entries.append(Entry(name, EntryKind.SPECIAL, 0, _MARKER))
            else:
                entries.append(Entry(name, EntryKind.UNREADABLE, 0, _NO_PATH))
        return entries


def is_path(path: str) -> bool:
    """Whether a key is a relative path as a file system would have it."""
    return {"", ".", ".."}.isdisjoint(path.split("/")) and not any(
        character < " " or character == "\x7f" for character in path
    )


def parse_object_url(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix (without a `/` at its end) of an object store's URL.

    Raises:
        UsageError: It is of another form.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, given = rest.partition("/")
    prefix = given.removesuffix("/")
    form = f"{scheme if scheme in SCHEMES else 's3'}://bucket/prefix"
    if not separator or scheme not in SCHEMES:
        raise UsageError("is not the URL of an object store", subject=url, hint=f"write {form}")
    # No user and password, port, query or escapes: a key may hold such characters, a bucket not.
    if not bucket or not all(c.isascii() and (c.isalnum() or c in "._-") for c in bucket):
        raise UsageError(
            "does not name a bucket as a URL of an object store does",
            # Something before an @ may be a password, so what was given is not repeated.
            subject=f"{scheme}://…",
            hint=f"write {form}; endpoint and credentials belong in the environment",
        )
    if given and not is_path(prefix):
        raise UsageError("the prefix is not a relative path", subject=url, hint=f"write {form}")
    return scheme, bucket, prefix
