"""The endpoint of a Hub, and the token that is sent there and nowhere else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from r1prov.errors import UsageError

Origin = tuple[str, str, int]

_TOKEN = re.compile(r"[!-~]{1,4096}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


def hub_headers(token: str | None) -> dict[str, str]:
    """User agent and token as `huggingface_hub` sends them (HF_TOKEN, the token file)."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined, unused-ignore]

    import r1prov

    if token and not _TOKEN.fullmatch(token):
        raise UsageError("the token for the Hub has characters that no token has")
    try:
        made = build_hf_headers(
            token=False if token == "" else token,
            library_name="r1prov",
            library_version=r1prov.__version__,
        )
    except Exception:  # noqa: BLE001 - a token file that cannot be read, among others
        raise UsageError("huggingface_hub has no usable token", hint="set HF_TOKEN") from None
    headers = {name.lower(): value for name, value in made.items() if value}
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    if bearer and not _TOKEN.fullmatch(bearer):
        # An HTTP library would show the token in its message.
        raise UsageError("HF_TOKEN has characters that no token has", hint="check HF_TOKEN")
    return headers


def endpoint_origin(endpoint: str) -> Origin:
    """The origin of an endpoint.

    Raises:
        UsageError: It is no HTTP address, or carries credentials or a query.
    """
    parts = urlsplit(endpoint)
    try:
        origin = origin_of(endpoint)
    except ValueError:
        raise UsageError(
            "the Hub's endpoint is no http or https address", hint="check HF_ENDPOINT"
        ) from None
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the Hub's endpoint may have a scheme, a host, a port and a path only",
            hint="check HF_ENDPOINT; credentials belong into HF_TOKEN",
        )
    return origin


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an address (RFC 6454).

    Raises:
        ValueError: It has none of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def may_carry_token(origin: Origin) -> bool:
    """Whether a token may be sent there: encrypted, or not beyond this machine."""
    return origin[0] == "https" or origin[1] in _LOOPBACK
