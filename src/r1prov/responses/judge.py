"""What every scheme is judged by: the key, the time, the nonce, the bodies, the request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from r1prov.errors import JsonError, ResponseError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.content_digest import held_digests
from r1prov.responses.http_signature import requested_nonces
from r1prov.responses.keys import ANY, ResponseKey, origin_of
from r1prov.responses.report import State
from r1prov.responses.served import served_keys
from r1prov.text import quoted
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from r1prov.responses.exchange import Exchange, Request
    from r1prov.responses.policy import ResponsePolicy

RESPONSE_BODY: Final = "body of the answer"
REQUEST_BODY: Final = "body of the request"


class Seen(Protocol):
    """Remembers what was accepted, so that it is accepted once."""

    def __call__(self, key: str, token: str) -> bool:
        """Whether `token` was seen before under that key; from now on it was.

        Args:
            key: Thumbprint of the key.
            token: The nonce, or the digest of a signature that has none.
        """


@dataclass(slots=True)
class Outcome:
    """What one scheme came to. `state` is what it is if no finding says otherwise."""

    scheme: str
    state: State = State.VERIFIED
    findings: list[Finding] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    key: ResponseKey | None = None
    created: datetime | None = None
    expires: datetime | None = None
    nonce: str | None = None
    tag: str | None = None

    def add(
        self,
        rule: str,
        subject: str,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Note a broken rule."""
        self.findings.append(
            finding(rule, subject, message, expected=expected, found=found, hint=hint)
        )

    def refuse(self, error: ResponseError) -> Outcome:
        """The outcome of something malformed."""
        self.add(
            error.rule,
            error.subject or self.scheme,
            error.message,
            expected=error.expected,
            found=error.found,
            hint=error.hint,
        )
        return self.settled()

    def unchecked(self, item: str, why: str) -> None:
        """Note that something which had to be checked could not be."""
        self.coverage.append(Coverage(item, CoverageState.UNREAD, why))
        if self.state in (State.VERIFIED, State.RESERIALIZED):
            self.state = State.UNCHECKED

    def weaker(self, item: str, why: str) -> None:
        """Note that something was checked in a weaker way than the policy takes."""
        self.coverage.append(Coverage(item, CoverageState.UNREAD, why))

    def checked(self, item: str, detail: str) -> None:
        """Note that something was checked."""
        self.coverage.append(Coverage(item, CoverageState.CHECKED, detail))

    def skipped(self, item: str, why: str) -> None:
        """Note that something was not looked at, and need not be."""
        self.coverage.append(Coverage(item, CoverageState.SKIPPED, why, required=False))

    def settled(self) -> Outcome:
        """The outcome with the state that its findings make it."""
        errors = {one.rule.name for one in self.findings if one.severity is Severity.ERROR}
        if errors - {"response-uncovered"}:
            self.state = State.INVALID
        elif errors:
            self.state = State.UNCOVERED
        return self


def instant(seconds: int) -> datetime | None:
    """A moment in seconds since 1970; None if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


class Judge:
    """One exchange under one policy.

    Args:
        exchange: What was captured.
        policy: What counts.
        at: The moment by which age and validity are judged.
        seen: Remembers nonces; None if nobody does.
        others: Other requests of this client, to say whose answer a signature was made for.
    """

    def __init__(
        self,
        exchange: Exchange,
        policy: ResponsePolicy,
        *,
        at: datetime,
        seen: Seen | None = None,
        others: Sequence[Request] = (),
    ) -> None:
        self.exchange = exchange
        self.policy = policy
        self.at = at
        self.seen = seen
        self.others = others
        self.origin = origin_of(exchange.request.url)
        self.model = asked_model(exchange.request)
        self.served = served_keys(exchange.documents)

    # ---- keys ----------------------------------------------------------------------------------

    def keys_called(self, name: str | None, outcome: Outcome) -> list[ResponseKey]:
        """Keys that a signature by `name` can be checked with; a finding where there is none.

        A signature that names no key is checked with the only one that there is.
        """
        policy = self.policy
        if name is None:
            found = [key for key in policy.keys if key.answers_for(self.origin)]
            if len(found) == 1:
                return found
            outcome.add(
                "response-key-unknown",
                outcome.scheme,
                "the signature names no key",
                expected="a key id, or a policy with one key for this origin",
                found=f"{len(found)} keys",
            )
            return []
        known = [key for key in policy.keys if name in key.names]
        if known:
            return known
        return self.pinned(name, [key for key in self.served.keys if name in key.names], outcome)

    def pinned(self, name: str, served: list[ResponseKey], outcome: Outcome) -> list[ResponseKey]:
        """Of the keys that a server sent under a name, those that are trusted or pinned."""
        known = {key.thumbprint: key for key in self.policy.keys if key.thumbprint}
        good = [
            known.get(key.thumbprint, key)
            for key in served
            if key.thumbprint in known or key.thumbprint in self.policy.pins
        ]
        if good:
            return good
        if self.served.errors and not served:
            outcome.findings += [
                finding(error.rule, error.subject or "key set", error.message)
                for error in self.served.errors
            ]
        thumbprint = served[0].thumbprint if served else None
        outcome.add(
            "response-key-unpinned" if served else "response-key-unknown",
            outcome.scheme,
            f"key {quoted(name, limit=100)} is not trusted"
            + (" : only the server itself vouches for it" if served else ""),
            expected="a key of the policy, or one that it pins",
            found=thumbprint,
        )
        return []

    def key_standing(self, key: ResponseKey, outcome: Outcome) -> None:
        """Note whether the key may answer: origin, model, validity, revocation."""
        outcome.key = key
        who = f"key {key.thumbprint or key.source}"
        if key.owner:
            who += f" of {key.owner}"
        if key.revoked_at is not None:
            reason = f": {key.revoked_reason}" if key.revoked_reason else ""
            outcome.add(
                "response-key-revoked", who, f"revoked {key.revoked_at:%Y-%m-%d %H:%MZ}{reason}"
            )
        if key.valid_from is not None and self.at < key.valid_from:
            outcome.add(
                "response-key-not-yet-valid", who, f"valid from {key.valid_from:%Y-%m-%d %H:%MZ}"
            )
        if key.valid_until is not None and self.at >= key.valid_until:
            outcome.add(
                "response-key-expired", who, f"valid until {key.valid_until:%Y-%m-%d %H:%MZ}"
            )
        if not key.answers_for(self.origin):
            outcome.add(
                "response-key-origin",
                who,
                f"it may not answer for {quoted(self.origin)}",
                expected=", ".join(key.origins),
                found=self.origin,
            )
        if key.models == ANY:
            return
        if self.model is None:
            outcome.unchecked("model", "the key is for some models, and the request names none")
        elif not key.answers_as(self.model):
            outcome.add(
                "response-key-model",
                who,
                f"it may not answer as {quoted(self.model)}",
                expected=", ".join(key.models),
                found=quoted(self.model),
            )

    # ---- time, nonce ---------------------------------------------------------------------------

    def times(self, created: int | None, expires: int | None, outcome: Outcome) -> None:
        """Note whether the signature is of now: created, expired, too old, of the future."""
        policy, subject = self.policy, outcome.scheme
        if created is None:
            outcome.add("response-untimed", subject, "the signature has no time of creation")
        else:
            outcome.created = made = instant(created)
            if made is None or made > self.at + policy.skew:
                outcome.add(
                    "response-from-future",
                    subject,
                    "the signature was made after it arrived",
                    expected=f"at most {policy.skew.total_seconds():.0f} s after {_shown(self.at)}",
                    found=_shown(made),
                )
            elif self.at - made > policy.max_age + policy.skew:
                outcome.add(
                    "response-too-old",
                    subject,
                    "the signature was made long before it arrived",
                    expected=f"at most {policy.max_age.total_seconds():.0f} s before "
                    f"{_shown(self.at)}",
                    found=_shown(made),
                )
        if expires is not None:
            outcome.expires = ends = instant(expires)
            if ends is not None and ends <= self.at - policy.skew:
                outcome.add(
                    "response-expired",
                    subject,
                    "the signature ended before it arrived",
                    expected=f"an end after {_shown(self.at)}",
                    found=_shown(ends),
                )

    def nonce(self, nonce: str | None, outcome: Outcome) -> None:
        """Note whether the signature carries the nonce that the request asked for."""
        outcome.nonce = nonce
        if self.policy.nonce == "ignore":
            return
        try:
            asked = requested_nonces(self.exchange.request.headers)
        except ResponseError as error:
            outcome.refuse(error)
            return
        if not asked and self.policy.nonce == "require":
            outcome.add(
                "response-nonce",
                "request",
                "the request asked for no nonce, and the policy wants one",
                hint='send Accept-Signature with `nonce="…"`, fresh for each request',
            )
        elif asked and nonce not in asked:
            outcome.add(
                "response-nonce",
                outcome.scheme,
                "the signature carries another nonce than the request asked for"
                if nonce
                else "the signature carries no nonce, and the request asked for one",
                expected=quoted(asked[0], limit=80),
                found=quoted(nonce, limit=80) if nonce else "none",
            )
        elif asked:
            outcome.checked("nonce", "the one that the request asked for")

    def replay(
        self, key: ResponseKey, nonce: str | None, signature: bytes, outcome: Outcome
    ) -> None:
        """Note whether the answer came before. Only asked of what is good otherwise."""
        if self.seen is None:
            outcome.skipped("replay", "nothing remembers earlier answers here")
            return
        if outcome.settled().state is State.INVALID:
            return
        token = nonce or hashlib.sha256(signature).hexdigest()
        if self.seen(key.thumbprint or key.source, token):
            outcome.add(
                "response-replayed",
                outcome.scheme,
                "this very signature was accepted before"
                if nonce is None
                else "a signature with this nonce was accepted before",
                found=quoted(token, limit=80),
            )
        else:
            outcome.checked("replay", "not seen before")

    # ---- bodies --------------------------------------------------------------------------------

    def response_digests(self, outcome: Outcome) -> dict[str, bytes] | None:
        """Digests of the answer's body; None, with a reason in the coverage, if there are none."""
        response = self.exchange.response
        if not response.complete:
            outcome.unchecked(RESPONSE_BODY, "the answer broke off")
            return None
        digests = held_digests(response)
        if digests is None:
            outcome.unchecked(RESPONSE_BODY, self._why("response.body"))
        return digests

    def request_digests(self, outcome: Outcome) -> dict[str, bytes] | None:
        """Digests of the request's body; None, with a reason in the coverage, if there are none."""
        digests = held_digests(self.exchange.request)
        if digests is None:
            outcome.unchecked(REQUEST_BODY, self._why("request.body"))
        return digests

    def _why(self, part: str) -> str:
        return "redacted" if self.exchange.is_redacted(part) else "not captured"


def _shown(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment is not None else "no date"


def asked_model(request: Request) -> str | None:
    """The model that a request asks for; None if it names none that can be read."""
    if not request.body:
        return None
    try:
        value = parse_json(request.body, subject="request", max_bytes=MAX_EXCHANGE_BODY_BYTES)
    except JsonError:
        return None
    model = value.get("model") if isinstance(value, dict) else None
    return model if isinstance(model, str) and model else None
