"""What goes wrong with an object store, as errors of r1prov.

`obstore`'s own messages are never passed on: they quote the URL, which for Azure may carry a shared
access signature.
"""

from __future__ import annotations

import re

from r1prov.errors import ChangedWhileReading, NotFound, StoreError, Unreadable

# An error's answer names its reason in XML; only letters are taken over from it.
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_KEY = re.compile(r'Path "(.{1,1024}?)"(?:: | contained)', re.DOTALL)
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
ENDPOINTS = {
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


class NoSuchRange(Unreadable):
    """The object has no byte where a range begins."""


def translate(error: Exception, scheme: str, bucket: str, subject: str) -> StoreError:
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
        return changed(subject)
    reason = f" ({code or status})" if code or status else ""
    denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, denied) or status in {"401", "403"}:
        what = "the credentials were refused" if code in _REFUSED else "access was denied"
        return Unreadable(f"{what}{reason}", subject=subject, hint=_CREDENTIALS[scheme])
    if status == "416":
        return NoSuchRange(f"the server knows no such range{reason}", subject=subject)
    if status in {"301", "307", "400"} and scheme == "s3":
        return Unreadable(
            f"the endpoint did not accept the request{reason}",
            subject=subject,
            hint="does AWS_REGION name the bucket's region?",
        )
    if "kind: Timeout" in text or "TimedOut" in text:
        return timed_out(subject)
    if "kind: Connect" in text:
        return Unreadable(
            "the endpoint cannot be reached",
            subject=subject,
            hint=f"check the network and {ENDPOINTS[scheme][0]}",
        )
    if status:
        return Unreadable(f"the server answered with an error{reason}", subject=subject)
    return Unreadable(
        "the answer was cut off, or was not what this protocol asks for",
        subject=subject,
        hint=f"check the network and {ENDPOINTS[scheme][0]}",
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


def changed(subject: str) -> ChangedWhileReading:
    """The error of an object that is another one now."""
    return ChangedWhileReading(
        "changed while it was read: the store holds another object now",
        subject=subject,
        hint="stop whatever writes to the model and run again",
    )


def timed_out(subject: str) -> Unreadable:
    """The error of a server that is too slow."""
    return Unreadable(
        "the server did not answer in time",
        subject=subject,
        hint="run again; a slow line may need fewer files at once",
    )


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None
