"""The exceptions of r1prov.

An exception means "could not decide". A bad model is a value (a finding), not an exception, except
for whoever asks for the model itself: `open_verified` has nothing to return then.

R1ProvError                 exit
├─ UsageError                 2   the command was asked for in a way it cannot be carried out
├─ InputError                 4   something we were given is malformed
│   ├─ FormatError            4   bytes of a model file break a rule; carries the rule's name
│   │   ├─ JsonError  SafetensorsError  ShardIndexError  GgufError  OmsError  ResponseError
│   ├─ NameRuleError          4   a file name that no manifest may carry
│   ├─ LimitExceeded          4   larger than a cap of `limits.py`
│   │   └─ BudgetSpent        4   a request that would go beyond what the user allowed to spend
│   ├─ ManifestError          4
│   ├─ TrustFileError         4
│   ├─ PolicyError            4
│   ├─ KeyFileError           4
│   ├─ TokenError             4   a key on a PKCS#11 token that cannot be used
│   ├─ BundleError            4
│   ├─ CacheError             4   a digest cache that others could write to
│   ├─ CertificateError       4
│   ├─ TimestampError         4   no timestamp could be had of an authority
│   ├─ StatementError         4   a signed statement about a streamed answer
│   ├─ EvidenceError          4   an evidence bundle that is not as r1prov writes it
│   ├─ ExchangeError          4   a captured API request and response that cannot be read
│   ├─ QuestionSetError       4
│   ├─ EndpointReferenceError 4   recorded answers that cannot be held against others
│   └─ CommitProofError       4   (OpenPgpError below it)
├─ StoreError                 4   a store or one of its blobs could not be read
│   ├─ NotFound  Unreadable  CommitUnavailable
│   └─ ChangedWhileReading
├─ VerificationFailed       1, 3  no pass where only a pass will do; carries the report
└─ ResponseNotVerified      1, 3  an answer of an API that must not be used; carries the report

A command that is interrupted exits 130, and one that meets a bug 70 (`cli/app.py`).
"""

from __future__ import annotations

from typing import Any


class R1ProvError(Exception):
    """Base of every error that r1prov raises on purpose.

    Args:
        message: One sentence without a full stop. May hold untrusted text: whoever prints it
            passes it through `r1prov.text.printable`.
        subject: The file or thing the message is about.
        hint: What the reader can do next.
    """

    exit_code = 70

    def __init__(
        self, message: str, *, subject: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint


class UsageError(R1ProvError):
    """The command cannot be carried out as it was asked for."""

    exit_code = 2


class InputError(R1ProvError):
    """Something we were given is malformed."""

    exit_code = 4


class FormatError(InputError):
    """Bytes of a model file break a rule of their format.

    Args:
        rule: Name of the rule in the rule table, such as ``header-duplicate-key``.
        message: What is wrong, in one sentence.
        subject: The file.
        expected: What the rule asks for.
        found: What is there instead.
        hint: What the reader can do next.
    """

    def __init__(
        self,
        rule: str,
        message: str,
        *,
        subject: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.rule = rule
        self.expected = expected
        self.found = found


class JsonError(FormatError):
    """Bytes are not the strict JSON that r1prov reads (see `formats.strictjson`)."""


class SafetensorsError(FormatError):
    """A safetensors header breaks the specification."""


class GgufError(FormatError):
    """A GGUF header breaks the format, or a rule that keeps it safe to read."""


class ShardIndexError(FormatError):
    """A `*.safetensors.index.json` is malformed."""


class OmsError(FormatError):
    """A signed statement is not one of OpenSSF Model Signing, or asks for what is not read."""


class ResponseError(FormatError):
    """A signature, digest or receipt of an API response is malformed, or asks for too much."""


class NameRuleError(InputError):
    """A file name that no manifest may carry."""


class LimitExceeded(InputError):
    """Larger than a cap of `limits.py`."""


class BudgetSpent(LimitExceeded):
    """The next request to an endpoint would go beyond what the user allowed to spend."""


class ManifestError(InputError):
    """A manifest is malformed."""


class TrustFileError(InputError):
    """A trust file is malformed."""


class PolicyError(InputError):
    """A policy file is malformed, or does not say which of its entries a model falls under."""


class KeyFileError(InputError):
    """A key file is malformed, of a refused kind, or cannot be unlocked."""


class TokenError(InputError):
    """A key on a PKCS#11 token cannot be found, unlocked or used; the message says why."""


class BundleError(InputError):
    """A Sigstore bundle is malformed."""


class CacheError(InputError):
    """A digest cache that must not be used: others could write to it."""


class CertificateError(InputError):
    """A certificate is malformed or of a kind that is not taken."""


class TimestampError(InputError):
    """A timestamp authority could not be asked, or what it answered is no timestamp."""


class StatementError(InputError):
    """Something that stands where a signed statement about a streamed answer should is none."""


class EndpointReferenceError(InputError):
    """Recorded answers of an endpoint are malformed, or nobody who is trusted signed them."""


class QuestionSetError(InputError):
    """A file of questions to put to an endpoint cannot be used."""


class CommitProofError(InputError):
    """A Hub commit proof does not hold; the message names the field."""


class EvidenceError(InputError):
    """An evidence bundle is malformed, or not exactly as `r1prov evidence create` writes it."""


class ExchangeError(InputError):
    """A captured exchange, or the log or HTTP message it is read from, is malformed."""


class OpenPgpError(CommitProofError):
    """An OpenPGP signature is malformed or does not verify."""


class StoreError(R1ProvError):
    """A store, or one of its blobs, could not be read."""

    exit_code = 4


class NotFound(StoreError):
    """The store or blob does not exist."""


class Unreadable(StoreError):
    """The store or blob exists and cannot be read."""


class ChangedWhileReading(StoreError):
    """A blob changed while it was read, so no digest of it means anything."""


class CommitUnavailable(StoreError):
    """The Git objects of a commit cannot be fetched; a manifest without a proof is still right."""


class VerificationFailed(R1ProvError):
    """A model that was to be opened did not pass, so nothing of it is handed out.

    Args:
        message: What stands against it.
        report: The `r1prov.Report`, which says why.
        subject: The model, file or tensor.
        hint: What the reader can do next.
    """

    def __init__(
        self,
        message: str,
        *,
        report: Any,  # noqa: ANN401 - its class belongs to a higher floor
        subject: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.report = report
        self.exit_code = report.exit_status


class ResponseNotVerified(R1ProvError):
    """An answer of an API did not pass, so it is not handed out, or must not be used any further.

    It is no error of the connection: clients that retry those do not retry this.

    Args:
        message: What stands against it.
        report: The `r1prov.responses.report.ExchangeReport`, which says why.
        subject: The origin.
        hint: What the reader can do next.
    """

    def __init__(
        self,
        message: str,
        *,
        report: Any,  # noqa: ANN401 - its class belongs to a higher floor
        subject: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.report = report
        self.exit_code = report.verdict.exit_status
