"""Requests to an object store, through `obstore`.

Everything that `obstore` raises leaves as a `StoreError` (`object_errors`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from r1prov.errors import (
    LimitExceeded,
    NotFound,
    StoreError,
    Unreadable,
)
from r1prov.limits import MAX_STORE_ENTRIES
from r1prov.stores.object_errors import ENDPOINTS, NoSuchRange, changed, timed_out, translate
from r1prov.stores.traffic import Traffic

if TYPE_CHECKING:
    from obstore import ListStream, ObjectMeta
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")
# Keys of one page of a listing: S3 and Cloud Storage give at most 1,000, Azure 5,000.
_PAGE_KEYS = {"s3": 1000, "gs": 1000, "az": 5000}
_CHUNK_KEYS = 1000
_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 1024 * 1024


class Stamp(NamedTuple):
    """What a store says about an object; any difference means another object.

    Attributes:
        size: Bytes.
        e_tag: Entity tag without quotes; empty if the store gives none.
        modified: Unix time in whole seconds, all that an HTTP header states.
    """

    size: int
    e_tag: str
    modified: int


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing, by the key that `obstore` makes of it."""

    key: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object, and what was said about it in the same answer."""

    data: bytes
    stamp: Stamp


class ObjectClient:
    """Sends requests from a thread of its own, so that any number can be under way.

    Args:
        scheme: One of `SCHEMES`.
        bucket: Name of the bucket or container.
        timeout: Seconds for one request, its body included.
        retries: How often a request that failed on the way is sent again.

    Raises:
        StoreError: `obstore` is missing, or the environment configures it wrongly.
    """

    def __init__(self, scheme: str, bucket: str, *, timeout: float, retries: int) -> None:
        self._scheme = scheme
        self._bucket = bucket
        # Every try, the pauses between them, and a little: the library ends before that.
        self._patience = (timeout + 5.0) * (retries + 1) + 5.0
        self._store = _connect(scheme, bucket, timeout, retries)
        self.traffic = Traffic()
        self._loop = asyncio.new_event_loop()
        # A daemon: a request that hangs must not keep the process alive.
        thread = threading.Thread(
            target=_serve, args=(self._loop,), name="r1prov-objects", daemon=True
        )
        thread.start()
        weakref.finalize(self, _stop, self._loop).atexit = False

    def start_read(
        self, key: str, start: int, end: int, pin: Stamp | None
    ) -> concurrent.futures.Future[Part]:
        """Ask for the bytes from `start` up to `end`; `wait` for what is returned.

        Args:
            key: Full key of the object.
            start: First byte.
            end: The byte behind the last one.
            pin: What the object must still be.
        """
        return asyncio.run_coroutine_threadsafe(self._read(key, start, end, pin), self._loop)

    def wait(self, future: concurrent.futures.Future[T], subject: str) -> T:
        """The result of a request.

        Raises:
            StoreError: It failed, or took longer than all its tries may take.
        """
        try:
            return future.result(self._patience)
        except StoreError as error:
            error.subject = subject
            raise
        except TimeoutError:
            future.cancel()
            raise timed_out(subject) from None
        except Exception as error:  # noqa: BLE001 - whatever the library raises, as one of ours
            # Not chained: the library's message may quote a URL with a signature in it.
            raise self._as_store_error(error, subject) from None

    def open(self, key: str, prefetch: int, subject: str) -> Part:
        """The first bytes of an object, at most `prefetch` of them.

        Raises:
            NotFound: There is no such object.
            StoreError: It cannot be read.
        """
        try:
            return self.wait(self.start_read(key, 0, prefetch, None), subject)
        except NoSuchRange:
            # No range of an empty object can be satisfied (RFC 9110, 14.1.2).
            stamp = self.wait(self._run(self._head(key)), subject)
            if stamp.size:
                raise
            return Part(b"", stamp)

    def heads(self, keys: list[str]) -> dict[str, Stamp | None]:
        """What the store says about each of these keys; None where it has no such object.

        Raises:
            StoreError: The store did not answer.
        """
        found: dict[str, Stamp | None] = {}
        for first in range(0, len(keys), 16):
            batch = keys[first : first + 16]
            futures = [self._run(self._head(key)) for key in batch]
            for key, future in zip(batch, futures, strict=True):
                try:
                    found[key] = self.wait(future, key)
                except NotFound as error:
                    if error.subject != key:
                        raise
                    found[key] = None
        return found

    def listing(self, prefix: str) -> list[Listed]:
        """Every object below `prefix` (which ends before its `/`), or of the whole bucket.

        Raises:
            LimitExceeded: There are more than `MAX_STORE_ENTRIES`.
            StoreError: The bucket cannot be listed.
        """
        import obstore

        found: list[Listed] = []
        self.traffic.count_request("list")
        try:
            pages = obstore.list(self._store, prefix or None, chunk_size=_CHUNK_KEYS)
        except Exception as error:  # noqa: BLE001 - as in `wait`
            raise self._as_store_error(error, self._bucket) from None
        while page := self.wait(self._run(_next_page(pages)), self._bucket):
            found += [Listed(meta["path"], _stamp(meta)) for meta in page]
            if len(found) > MAX_STORE_ENTRIES:
                raise LimitExceeded(
                    f"holds more than {MAX_STORE_ENTRIES:,} objects",
                    subject=f"{self._scheme}://{self._bucket}/{prefix}",
                    hint="name the model's own prefix, as in s3://bucket/models/DeepSeek-R1",
                )
        for _ in range(len(found) // _PAGE_KEYS[self._scheme]):
            self.traffic.count_request("list")
        return found

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _read(self, key: str, start: int, end: int, pin: Stamp | None) -> Part:
        import obstore

        self.traffic.count_request("range")
        options: dict[str, Any] = {"range": (start, end)}
        # A weak tag never matches (RFC 9110, 13.1.1); `_same` compares what comes back.
        if pin is not None and pin.e_tag and not pin.e_tag.startswith("W/"):
            options["if_match"] = f'"{pin.e_tag}"'
        result = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type]
        stamp = _stamp(result.meta)
        if pin is not None and stamp != pin:
            raise changed(key)
        want = max(0, min(end, stamp.size) - start)
        chunks, got = [], 0
        async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            chunks.append(chunk)
            got += len(chunk)
            # A server that sends more than was asked for would fill the memory.
            if got > want:
                raise Unreadable(f"the server sent more than the {want:,} bytes asked for")
        self.traffic.count_bytes("range", got)
        if got != want:
            raise Unreadable(f"the server sent {got:,} of the {want:,} bytes asked for")
        return Part(b"".join(chunks), stamp)

    async def _head(self, key: str) -> Stamp:
        import obstore

        self.traffic.count_request("head")
        return _stamp(await obstore.head_async(self._store, key))

    def _as_store_error(self, error: Exception, subject: str) -> StoreError:
        return translate(error, self._scheme, self._bucket, subject)


async def _next_page(pages: ListStream[Any]) -> list[ObjectMeta]:
    try:
        return list(await pages.__anext__())
    except StopAsyncIteration:
        return []


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon_threadsafe(loop.stop)


def _stamp(meta: ObjectMeta) -> Stamp:
    # Listings give tags with quotes or without, and times with fractions of a second.
    tag = (meta["e_tag"] or "").replace('"', "")
    return Stamp(meta["size"], tag, int(meta["last_modified"].timestamp()))


def _connect(
    scheme: str, bucket: str, timeout: float, retries: int
) -> S3Store | GCSStore | AzureStore:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise Unreadable(
            "object stores need a package that is not installed",
            subject=f"{scheme}://{bucket}",
            hint=f"install r1prov[{scheme}]",
        ) from None
    client: ClientConfig = {
        "timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=min(timeout, _CONNECT_SECONDS)),
        # Only where whoever set the endpoint wrote http:// there.
        "allow_http": any(
            os.environ.get(name, "").startswith("http://") for name in ENDPOINTS[scheme]
        ),
    }
    retry: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=timeout * (retries + 1)),
        "backoff": {
            "init_backoff": timedelta(milliseconds=200),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
    try:
        if scheme == "gs":
            return GCSStore(bucket, client_options=client, retry_config=retry)
        if scheme == "az":
            return AzureStore(bucket, client_options=client, retry_config=retry)
        if os.environ.get("AWS_PROFILE") and not os.environ.get("AWS_ACCESS_KEY_ID"):
            provider = _profile(f"{scheme}://{bucket}")
            return S3Store(
                bucket, credential_provider=provider, client_options=client, retry_config=retry
            )
        return S3Store(bucket, client_options=client, retry_config=retry)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - as in `ObjectClient.wait`
        raise translate(error, scheme, bucket, f"{scheme}://{bucket}") from None


def _profile(subject: str) -> Boto3CredentialProvider:
    """Credentials of AWS_PROFILE, which only Amazon's own library reads."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise Unreadable(
            "AWS_PROFILE is set, and profiles are read through boto3, which is not installed",
            subject=subject,
            hint="install boto3, or export the keys themselves: "
            "aws configure export-credentials --format env",
        ) from None
    return Boto3CredentialProvider()
