"""Content-Digest (RFC 9530): what a message says the digest of its content is, and whether it is.

The digest is over the bytes as they are coded: after gzip, before chunking (section 2). So a body
that somebody decompressed cannot be checked.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import ResponseError
from r1prov.responses.exchange import BodyDigests, Headers, field_values
from r1prov.responses.structured_fields import Item, parse_dictionary, write_dictionary
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from r1prov.responses.exchange import Request, Response

FIELD: Final = "Content-Digest"
# The registry's other algorithms are insecure or obsolete ("MUST NOT be used" against attackers,
# RFC 9530 section 5): they count for nothing.
SIZES: Final = {"sha-256": 32, "sha-512": 64}


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """A parsed `Content-Digest`.

    Attributes:
        known: Algorithm and value of each digest that counts; never empty.
        ignored: Algorithms that count for nothing.
    """

    known: tuple[tuple[str, bytes], ...]
    ignored: tuple[str, ...] = ()

    def differing(self, digests: Mapping[str, bytes]) -> tuple[str, ...]:
        """Algorithms whose digest is another than in `digests`: all that are known must match."""
        return tuple(
            name for name, value in self.known if not hmac.compare_digest(value, digests[name])
        )


def read_content_digest(headers: Headers) -> ContentDigest | None:
    """The `Content-Digest` of a message; None if it has none.

    Raises:
        ResponseError: As `parse_content_digest`.
    """
    lines = field_values(headers, FIELD)
    return parse_content_digest(lines) if lines else None


def parse_content_digest(lines: Sequence[str]) -> ContentDigest:
    """Parse the values of a `Content-Digest` field.

    Raises:
        ResponseError: `response-digest-malformed`: no dictionary of byte sequences, base64 in
            another spelling than the one, a value of the wrong length; or
            `response-digest-unsupported`: no digest that counts.
    """
    try:
        members = parse_dictionary(lines, name=FIELD.lower())
    except ResponseError as error:
        error.rule = "response-digest-malformed"
        raise
    known, ignored = [], []
    for name, member in members.items():
        if not isinstance(member, Item) or not isinstance(member.value, bytes):
            raise _malformed(f"the {quoted(name)} digest is no byte sequence")
        if name not in SIZES:
            ignored.append(name)
        elif len(member.value) != SIZES[name]:
            raise _malformed(
                f"the {name} digest has {len(member.value)} bytes",
                expected=f"{SIZES[name]} bytes",
            )
        else:
            known.append((name, member.value))
    if not known:
        raise ResponseError(
            "response-digest-unsupported",
            "Content-Digest has no digest that counts",
            subject=FIELD,
            expected=" or ".join(SIZES),
            found=", ".join(map(quoted, ignored[:4])) or "nothing",
        )
    return ContentDigest(tuple(known), tuple(ignored))


def _malformed(message: str, expected: str | None = None) -> ResponseError:
    return ResponseError("response-digest-malformed", message, subject=FIELD, expected=expected)


def body_digests(body: bytes) -> dict[str, bytes]:
    """The digests of a body that `ContentDigest.differing` compares with."""
    return _named(BodyDigests.of(body))


def held_digests(message: Request | Response) -> dict[str, bytes] | None:
    """The digests of a captured body; None if it was not captured."""
    if message.body is not None:
        return body_digests(message.body)
    return _named(message.body_digests) if message.body_digests is not None else None


def _named(digests: BodyDigests) -> dict[str, bytes]:
    return {"sha-256": digests.sha256, "sha-512": digests.sha512}


def content_digest(digests: Mapping[str, bytes]) -> str:
    """The value of a `Content-Digest` field.

    Args:
        digests: Algorithm and digest, such as `{"sha-256": hashlib.sha256(body).digest()}`.
    """
    return write_dictionary({name: Item(value) for name, value in digests.items()})
