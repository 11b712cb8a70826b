"""Receipts of the NEAR AI and Phala lineage: `GET /v1/signature/{id}`.

The receipt signs `sha256(request):sha256(response)`, with the model's name in front in its newer
form. It binds bodies and nothing else: not the status, the path or the time. Whether the key lives
in an enclave is for its attestation, which is not verified here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import KeyFileError
from r1prov.responses.algorithms import ED25519, EIP191
from r1prov.responses.keys import ResponseKey, address_key, raw_ed25519_key
from r1prov.responses.receipt_fields import Members, malformed, parse_object
from r1prov.responses.secp256k1 import recover_address
from r1prov.text import quoted

if TYPE_CHECKING:
    from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})+)")
_ALGORITHMS: Final = {"ecdsa": EIP191, "ed25519": ED25519}
_SIZES: Final = {EIP191: (20, 65), ED25519: (32, 64)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NearReceipt:
    """A receipt of `/v1/signature/{id}`, not verified.

    Attributes:
        text: What is signed.
        model: The model that it names; None in the older form, which names none.
        request: SHA-256 of the request's body.
        response: SHA-256 of the response's body.
        algorithm: What it says it is signed with. The key decides.
        address: Who it says signed: `0x` and 40 digits, or 64 digits of an Ed25519 key.
        signature: Its bytes.
        kind: `provider_tee` and the like, unsigned; None if it says nothing.
    """

    text: str
    model: str | None
    request: bytes
    response: bytes
    algorithm: str
    address: str
    signature: bytes
    kind: str | None = None

    def verify(self, key: ResponseKey) -> bool:
        """Whether that key signed the text."""
        signed = self.text.encode()
        if key.algorithm == EIP191:
            return recover_address(self.signature, signed) == key.address
        return key.verify(self.signature, signed)

    def named_key(self) -> ResponseKey:
        """The key that it names: good for nothing but a comparison with keys that are trusted.

        Raises:
            ResponseError: `response-receipt-malformed`: an Ed25519 key that is none.
        """
        if self.algorithm == EIP191:
            return address_key(self.address, source="receipt")
        try:
            return raw_ed25519_key(bytes.fromhex(self.address), source="receipt")
        except KeyFileError as error:
            raise malformed(error.message, subject="receipt") from None


def is_near(value: dict[str, Any]) -> bool:
    """Whether a JSON object looks like such a receipt."""
    return {"text", "signature"} <= value.keys() and "signing_address" in value


def parse_near(raw: bytes, *, subject: str = "receipt") -> NearReceipt:
    """Parse what `/v1/signature/{id}` gives.

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    return near_of(parse_object(raw, subject=subject), subject=subject)


def near_of(value: dict[str, Any], *, subject: str = "receipt") -> NearReceipt:
    """A receipt from parsed JSON.

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    members = Members(value, subject)
    text = members.text("text")
    model, request, response = split_text(text, subject=subject)
    word = members.text("signing_algo").lower()
    if word not in _ALGORITHMS:
        raise malformed(
            f"{subject} is signed with {quoted(word)}",
            subject=subject,
            expected=" or ".join(_ALGORITHMS),
        )
    algorithm = _ALGORITHMS[word]
    sizes = zip(("signing_address", "signature"), _SIZES[algorithm], strict=True)
    address, signature = (_hex(members, name, size, subject) for name, size in sizes)
    return NearReceipt(
        text=text,
        model=model,
        request=request,
        response=response,
        algorithm=algorithm,
        address=("0x" if algorithm == EIP191 else "") + address.hex(),
        signature=signature,
        kind=members.optional_text("signature_kind"),
    )


def split_text(text: str, *, subject: str = "receipt") -> tuple[str | None, bytes, bytes]:
    """Model, request and response of a signed text, split from the right.

    A model's name may hold colons, as `deepseek-r1:671b` does, and digests never do.

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    parts = text.rsplit(":", 2)
    request, response = parts[-2:] if len(parts) > 1 else ("", "")
    model = parts[0] if len(parts) == 3 else None
    if not (_SHA256.fullmatch(request) and _SHA256.fullmatch(response)) or model == "":
        raise malformed(
            f"the signed text of {subject} is not of its form",
            subject=subject,
            expected="`sha256:sha256` or `model:sha256:sha256`, in hexadecimal digits",
            found=quoted(text, limit=200),
        )
    return model, bytes.fromhex(request), bytes.fromhex(response)


def _hex(members: Members, name: str, size: int, subject: str) -> bytes:
    text = members.text(name)
    match = _HEX.fullmatch(text)
    data = bytes.fromhex(match.group(1)) if match else b""
    if len(data) != size:
        raise malformed(
            f"`{name}` of {subject} is wrong",
            subject=subject,
            expected=f"{size} bytes in hexadecimal digits",
            found=quoted(text, limit=80),
        )
    return data
