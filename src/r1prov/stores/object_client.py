"""Requests to an object store, through `obstore`.

Everything that `obstore` raises is turned into a `StoreError` here. Its own messages are never
passed on: they quote the URL, which for Azure may carry a shared access signature.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import re
import threading
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from r1prov.errors import (
    ChangedWhileReading,
    LimitExceeded,
    NotFound,
    StoreError,
    Unreadable,
)
from r1prov.limits import MAX_STORE_ENTRIES
from r1prov.text import human_bytes, plural

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
# An error's answer names its reason in XML; only letters are taken over from it.
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_KEY = re.compile(r'Path "(.{1,1024}?)"(?:: | contained)', re.DOTALL)
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURITE_BLOB_STORAGE_URL"),
}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a "
    "public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, or "
    "GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or "
    "AZURE_STORAGE_SAS_TOKEN, or AZURE_SKIP_SIGNATURE=true for a public container",
}
# What `obstore` asks when the environment holds no credentials: the machine's metadata service
# or a token service. An error that names one of them is about credentials, not about the bucket.
_TOKEN_SERVICE = re.compile(
    r"/latest/(?:api/token|meta-data)|/computeMetadata/v1|/metadata/identity/oauth2|"
    r"Error performing token request|TokenRequest \{|AssumeRole|MissingAccount|DecodeKey|"
    r"MissingKey|Unable to decode service account"
)
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}


class _NoSuchRange(Unreadable):
    """The object has no byte where a range begins."""


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


@dataclass(slots=True)
class Traffic:
    """What was asked of a store.

    Attributes:
        requests: Requests, without those that were sent again after a failure; a listing counts
            as many as it has full pages of the store's page size, and one.
        bytes: Bytes of objects that arrived, without headers and listings.
    """

    requests: int = 0
    bytes: int = 0

    def summary(self) -> str:
        """One line, such as `165 requests, 21.4 MB`."""
        return f"{plural(self.requests, 'request')}, {human_bytes(self.bytes)}"


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
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise _timed_out(subject) from None
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
        except _NoSuchRange:
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
        self.traffic.requests += 1
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
        self.traffic.requests += len(found) // _PAGE_KEYS[self._scheme]
        return found

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _read(self, key: str, start: int, end: int, pin: Stamp | None) -> Part:
        import obstore

        self.traffic.requests += 1
        options: dict[str, Any] = {"range": (start, end)}
        # A weak tag never matches (RFC 9110, 13.1.1); `_same` compares what comes back.
        if pin is not None and pin.e_tag and not pin.e_tag.startswith("W/"):
            options["if_match"] = f'"{pin.e_tag}"'
        result = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type]
        stamp = _stamp(result.meta)
        if pin is not None and stamp != pin:
            raise _changed(key)
        want = max(0, min(end, stamp.size) - start)
        chunks, got = [], 0
        async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            chunks.append(chunk)
            got += len(chunk)
            # A server that sends more than was asked for would fill the memory.
            if got > want:
                raise Unreadable(f"the server sent more than the {want:,} bytes asked for")
        self.traffic.bytes += got
        if got != want:
            raise Unreadable(f"the server sent {got:,} of the {want:,} bytes asked for")
        return Part(b"".join(chunks), stamp)

    async def _head(self, key: str) -> Stamp:
        import obstore

        self.traffic.requests += 1
        return _stamp(await obstore.head_async(self._store, key))

    def _as_store_error(self, error: Exception, subject: str) -> StoreError:
        return _translate(error, self._scheme, self._bucket, subject)


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
            os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS[scheme]
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
        raise _translate(error, scheme, bucket, f"{scheme}://{bucket}") from None


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


def _translate(error: Exception, scheme: str, bucket: str, subject: str) -> StoreError:
    """What an exception of `obstore` means, without any of its words but the error code."""
    from obstore import exceptions

    text = str(error)
    code = _first(_CODE, text)
    status = _first(_STATUS, text)
    place = f"{scheme}://{bucket}"
    if isinstance(error, exceptions.InvalidPathError):
        return _bad_key(text, place)
    # botocore reads the profiles of AWS_PROFILE.
    if type(error).__module__.startswith("botocore") or _TOKEN_SERVICE.search(text):
        return Unreadable(
            "no credentials were found, or they could not be used",
            subject=place,
            hint=_CREDENTIALS[scheme],
        )
    if code in _NO_BUCKET:
        return NotFound("there is no such bucket", subject=place)
    if isinstance(error, FileNotFoundError):
        return NotFound("there is no such object", subject=subject)
    if isinstance(error, exceptions.PreconditionError):
        return _changed(subject)
    reason = f" ({code or status})" if code or status else ""
    denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, denied) or status in {"401", "403"}:
        what = "the credentials were refused" if code in _REFUSED else "access was denied"
        return Unreadable(f"{what}{reason}", subject=subject, hint=_CREDENTIALS[scheme])
    if status == "416":
        return _NoSuchRange(f"the server knows no such range{reason}", subject=subject)
    if status in {"301", "307", "400"} and scheme == "s3":
        return Unreadable(
            f"the endpoint did not accept the request{reason}",
            subject=subject,
            hint="does AWS_REGION name the bucket's region?",
        )
    if "kind: Timeout" in text or "TimedOut" in text:
        return _timed_out(subject)
    if "kind: Connect" in text:
        return Unreadable(
            "the endpoint cannot be reached",
            subject=subject,
            hint=f"check the network and {_ENDPOINTS[scheme][0]}",
        )
    if status:
        return Unreadable(f"the server answered with an error{reason}", subject=subject)
    return Unreadable(
        "the answer was cut off, or was not what this protocol asks for",
        subject=subject,
        hint=f"check the network and {_ENDPOINTS[scheme][0]}",
    )


def _bad_key(text: str, place: str) -> StoreError:
    key = _first(_KEY, text)
    return Unreadable(
        "holds an object whose key cannot be a file's path, so nothing there can be listed: "
        + (repr(key) if key else "the key is not named"),
        subject=place,
        hint="`..`, `//` and control characters are no part of a model; remove the object, "
        "or name a prefix without it",
    )


def _changed(subject: str) -> ChangedWhileReading:
    return ChangedWhileReading(
        "changed while it was read: the store holds another object now",
        subject=subject,
        hint="stop whatever writes to the model and run again",
    )


def _timed_out(subject: str) -> Unreadable:
    return Unreadable(
        "the server did not answer in time",
        subject=subject,
        hint="run again; a slow line may need fewer files at once",
    )


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
