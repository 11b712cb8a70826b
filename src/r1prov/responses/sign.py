"""How the proxy signs: answers in their header (RFC 9421), streams by statements within them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.limits import PROXY_SIGNATURE_SECONDS
from r1prov.responses.algorithms import ALGORITHMS
from r1prov.responses.content_digest import content_digest
from r1prov.responses.http_signature import create_signature
from r1prov.responses.message import RequestMessage, ResponseMessage
from r1prov.responses.stream_signer import StreamSigner
from r1prov.responses.stream_statement import encode_statement

if TYPE_CHECKING:
    from r1prov.responses.keys import SigningKey
    from r1prov.responses.proxy_head import Admitted
    from r1prov.responses.stream_statement import RequestFacts, StreamStatement

TAG: Final = "r1prov"
LABEL: Final = "r1prov"
# Besides `content-type` and the request's `content-digest`, which are covered where they are.
_COVERED: Final = (
    "@status",
    "content-digest",
    "r1prov-manifest",
    "r1prov-weights",
    "r1prov-origin",
    "r1prov-request-digest",
    "@method;req",
    "@authority;req",
    "@path;req",
    "@query;req",
)


@dataclass(frozen=True, slots=True)
class Binding:
    """What the proxy stands for.

    Attributes:
        manifest_sha256: SHA-256 of the manifest file in hex.
        weights_at: When the weights were verified against it, seconds since 1970; None if they
            were not.
    """

    manifest_sha256: str
    weights_at: int | None

    def fields(self) -> list[tuple[str, str]]:
        """The header fields that say so."""
        digest = base64.b64encode(bytes.fromhex(self.manifest_sha256)).decode()
        weights = "stated" if self.weights_at is None else f"verified;at={self.weights_at}"
        return [("r1prov-manifest", f"sha-256=:{digest}:"), ("r1prov-weights", weights)]


class AnswerSigner:
    """Signs whatever the proxy answers.

    Args:
        key: Who signs.
        binding: What for.
        lifetime: Seconds from a signature to its expiry.
    """

    def __init__(
        self, key: SigningKey, binding: Binding, *, lifetime: int = PROXY_SIGNATURE_SECONDS
    ) -> None:
        self._key = key
        self._keyid = key.public.thumbprint
        self._algorithm = ALGORITHMS[key.public.algorithm].jose[0]
        self._binding = binding
        self._fields = binding.fields()
        self._lifetime = lifetime

    def answer(
        self,
        request: Admitted,
        facts: RequestFacts,
        *,
        status: int,
        content_type: str | None,
        content: bytes,
        origin: str,
        now: int,
    ) -> list[tuple[str, str]]:
        """Header fields that sign a whole answer.

        Args:
            request: What was asked.
            facts: The same, with the digest of its content.
            status: Of the answer.
            content_type: Its `Content-Type`; None if it has none.
            content: Its content, coded as it is sent.
            origin: `upstream`, or `proxy` for an answer of the proxy's own.
            now: Seconds since 1970.
        """
        fields = [
            ("content-digest", content_digest({"sha-256": hashlib.sha256(content).digest()})),
            *self._fields,
            ("r1prov-origin", origin),
            (
                "r1prov-request-digest",
                content_digest({"sha-256": bytes.fromhex(facts.content_sha256)}),
            ),
        ]
        covered = list(_COVERED)
        known = list(fields)
        if content_type is not None:
            covered.insert(1, "content-type")
            known.append(("content-type", content_type))
        if request.content_digest:
            covered.append("content-digest;req")
        message = ResponseMessage(
            status=status,
            headers=tuple(known),
            request=RequestMessage(
                method=request.method,
                scheme="",
                authority=request.authority,
                path=request.path,
                query=request.query[1:],
                target=request.target,
                headers=tuple(("content-digest", value) for value in request.content_digest),
            ),
        )
        signature = create_signature(
            message,
            covered,
            self._key,
            created=now,
            expires=now + self._lifetime,
            keyid=self._keyid,
            nonce=request.nonce,
            tag=TAG,
            label=LABEL,
        )
        return [*fields, *((name.lower(), value) for name, value in signature)]

    def stream(
        self, facts: RequestFacts, *, status: int, content_type: str | None, inline: bool
    ) -> tuple[str, StreamSigner, list[tuple[str, str]]]:
        """A new stream: its name, what signs it, and the header fields that promise it."""
        name = secrets.token_urlsafe(16)
        signer = StreamSigner(
            self._statement,
            stream_id=name,
            status=status,
            content_type=content_type,
            request=facts,
            manifest_sha256=self._binding.manifest_sha256,
            weights_at=self._binding.weights_at,
            lifetime=self._lifetime,
            inline=inline,
        )
        how = "inline" if inline else "receipt"
        return name, signer, [*self._fields, ("r1prov-stream", f'{how};id="{name}"')]

    def _statement(self, statement: StreamStatement) -> str:
        return encode_statement(
            statement, key_id=self._keyid, algorithm=self._algorithm, sign=self._key.sign
        )
