"""How the proxy signs: answers in their header (RFC 9421), streams by statements within them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.limits import PROXY_SIGNATURE_SECONDS
from r1prov.responses.algorithms import ALGORITHMS
from r1prov.responses.stream_signer import StreamSigner
from r1prov.responses.stream_statement import encode_statement
from r1prov.responses.structured_fields import write_bare

if TYPE_CHECKING:
    from r1prov.responses.keys import SigningKey
    from r1prov.responses.proxy_head import Admitted
    from r1prov.responses.stream_statement import RequestFacts, StreamStatement

TAG: Final = "r1prov"
LABEL: Final = "r1prov"


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
        weights = "stated" if self.weights_at is None else f"verified;at={self.weights_at}"
        return [
            ("r1prov-manifest", _digest(bytes.fromhex(self.manifest_sha256))),
            ("r1prov-weights", weights),
        ]


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
            ("content-digest", _digest(hashlib.sha256(content).digest())),
            *self._fields,
            ("r1prov-origin", origin),
            ("r1prov-request-digest", _digest(bytes.fromhex(facts.content_sha256))),
        ]
        lines = [("@status", str(status)), *fields]
        if content_type is not None:
            lines.append(("content-type", content_type))
        asked = [
            ("@method", request.method),
            ("@authority", request.authority),
            ("@path", request.path),
            ("@query", request.query),
        ]
        if request.content_digest:
            asked.append(("content-digest", ", ".join(request.content_digest)))
        # RFC 9421 section 2.5, of parts that are known here: building them from a message, as a
        # verifier must, takes longer than signing.
        covered = [f'"{name}"' for name, _ in lines] + [f'"{name}";req' for name, _ in asked]
        nonce = "" if request.nonce is None else f";nonce={write_bare(request.nonce)}"
        parameters = (
            f"({' '.join(covered)});created={now};expires={now + self._lifetime}{nonce}"
            f';keyid="{self._keyid}";tag="{TAG}"'
        )
        values = [value for _, value in (*lines, *asked)]
        base = "".join(f"{name}: {value}\n" for name, value in zip(covered, values, strict=True))
        signature = self._key.sign(f'{base}"@signature-params": {parameters}'.encode("ascii"))
        return [
            *fields,
            ("signature-input", f"{LABEL}={parameters}"),
            ("signature", f"{LABEL}={write_bare(signature)}"),
        ]

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


def _digest(sha256: bytes) -> str:
    """A digest as RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"
