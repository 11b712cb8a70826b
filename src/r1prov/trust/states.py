"""What can become of a signature, and of a timestamp over one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class SignatureState(Enum):
    """What became of one signature. Only `GOOD` counts."""

    GOOD = "good"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_KEY = "unknown key"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    REVOKED = "revoked"
    OUT_OF_SCOPE = "out of scope"
    # Of signatures with a certificate only.
    CERTIFICATE_UNTRUSTED = "certificate untrusted"
    CERTIFICATE_USAGE = "certificate not for this use"
    CERTIFICATE_EXPIRED = "certificate expired"
    CERTIFICATE_NOT_YET_VALID = "certificate not yet valid"
    CERTIFICATE_REVOKED = "certificate revoked"
    OTHER_IDENTITY = "other identity"


class TimestampState(Enum):
    """What became of one timestamp. Only `GOOD` proves a time."""

    GOOD = "good"
    INVALID = "invalid"
    UNTRUSTED = "untrusted"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class TimestampCheck:
    """One timestamp and what became of it.

    Attributes:
        state: What became of it.
        detail: One sentence (may hold untrusted text).
        time: Latest moment at which the signature came to be, of a good one; else None.
        hint: What to do about it.
    """

    state: TimestampState
    detail: str
    time: datetime | None = None
    hint: str | None = None

    @property
    def rule(self) -> str | None:
        """Name of the rule that it breaks; None of a good one."""
        return None if self.state is TimestampState.GOOD else f"timestamp-{self.state.value}"


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """One signature and what became of it.

    Attributes:
        bundle: Name of the bundle file.
        key_id: Key that made it, or the key the bundle names.
        owner: Owner of that key, or of the authority that vouches for it; None if it is unknown.
        state: What became of it.
        detail: One sentence (may hold untrusted text).
        identities: Of a good signature with a certificate: the names asked for that it bears.
        authority: Id of the authority that vouches for it; None if none does.
        counted_as: Further names of its signer, which make no other signer of it.
        timestamps: Timestamps over it.
    """

    bundle: str
    key_id: str
    owner: str | None
    state: SignatureState
    detail: str
    identities: tuple[str, ...] = ()
    authority: str | None = None
    counted_as: tuple[str, ...] = ()
    timestamps: tuple[TimestampCheck, ...] = ()

    @property
    def proven_time(self) -> datetime | None:
        """The earliest moment before which the signature is proven to have been made."""
        return earliest(self.timestamps)

    def line(self, *, whole_id: bool = False) -> str:
        """Who signed, and what became of it, in a line (may hold untrusted text)."""
        key = self.key_id if whole_id else self.key_id[:8]
        who = self.owner or "unknown signer"
        if self.identities:
            who += f" for {', '.join(self.identities)}"
        state = self.state.name.lower().replace("_", " ")
        proven = self.proven_time
        when = f", timestamped {proven:%Y-%m-%d %H:%MZ}" if proven is not None else ""
        return f"{who}, key {key or 'unnamed'}: {state}{when}"


def earliest(timestamps: Iterable[TimestampCheck]) -> datetime | None:
    """The earliest time that good timestamps prove; None if there is no good one."""
    return min((one.time for one in timestamps if one.time is not None), default=None)


def different_signers(checks: Iterable[SignatureCheck]) -> int:
    """How many different signers made the good ones among these signatures.

    The same key, whatever it is called, is one signer; so is one identity with several keys.
    """
    groups: list[set[str]] = []
    for one in checks:
        if one.state is not SignatureState.GOOD:
            continue
        names = {one.key_id, *one.identities, *one.counted_as}
        same = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names]
        groups.append(names.union(*same))
    return len(groups)
