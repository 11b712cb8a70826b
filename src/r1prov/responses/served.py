"""Keys and receipts that were captured beside an answer. Nothing in them is trusted by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from r1prov.errors import KeyFileError, ResponseError
from r1prov.responses import aci, near
from r1prov.responses.jwks import parse_jwks
from r1prov.responses.receipt_fields import parse_object
from r1prov.text import printable

if TYPE_CHECKING:
    from r1prov.responses.exchange import CapturedDocument
    from r1prov.responses.keys import ResponseKey

_OK = 200


@dataclass(frozen=True, slots=True)
class Served:
    """Keys that came with an exchange.

    Attributes:
        keys: Of key sets.
        keysets: Workload key sets (ACI).
        errors: What was wrong with documents that hold keys.
    """

    keys: tuple[ResponseKey, ...] = ()
    keysets: tuple[aci.AciKeyset, ...] = ()
    errors: tuple[ResponseError, ...] = ()


def served_keys(documents: Sequence[CapturedDocument]) -> Served:
    """The keys in captured documents, to be compared with pins."""
    keys: list[ResponseKey] = []
    keysets: list[aci.AciKeyset] = []
    errors: list[ResponseError] = []
    for document in documents:
        value = _object(document)
        if value is None:
            continue
        subject = printable(document.url, limit=120)
        try:
            if "keys" in value:
                keys += parse_jwks(document.body, subject=subject)
            elif (keyset := aci.keyset_in(value)) is not None:
                keysets.append(aci.keyset_of(keyset, subject=subject))
        except KeyFileError as error:
            errors.append(ResponseError("response-key-malformed", error.message, subject=subject))
        except ResponseError as error:
            error.rule = "response-key-malformed"
            errors.append(error)
    return Served(tuple(keys), tuple(keysets), tuple(errors))


def _object(document: CapturedDocument) -> dict[str, Any] | None:
    if document.status != _OK or not document.body:
        return None
    try:
        return parse_object(document.body, subject=document.url)
    except ResponseError:
        return None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched as a receipt of one scheme.

    Attributes:
        bodies: Bytes of documents that are one, by their address or by what they hold.
        statuses: HTTP status of each try that gave none.
    """

    bodies: tuple[bytes, ...]
    statuses: tuple[int, ...]


def fetched_receipts(documents: Sequence[CapturedDocument], scheme: str) -> Fetched:
    """The receipts among captured documents.

    Args:
        documents: What was captured.
        scheme: `aci` or `near`.
    """
    looks = aci.is_receipt if scheme == "aci" else near.is_near
    place = "/v1/aci/receipts/" if scheme == "aci" else "/v1/signature/"
    bodies, statuses = [], []
    for document in documents:
        try:
            named = place in unquote(urlsplit(document.url).path)
        except ValueError:
            named = False
        value = _object(document)
        if value is not None and looks(value):
            bodies.append(document.body)
        elif named and document.status == _OK and document.body:
            # An address of receipts that gave something else: a receipt that is malformed. But the
            # old address also serves receipts of the newer form.
            other = value is not None and (aci.is_receipt(value) or near.is_near(value))
            if not other:
                bodies.append(document.body)
        elif named:
            statuses.append(document.status)
    return Fetched(tuple(bodies), tuple(statuses))
