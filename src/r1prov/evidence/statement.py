"""The signature of a bundle: an in-toto statement about its index, DSSE in a Sigstore bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.attest.create import sign_statement
from r1prov.attest.names import VERIFIER_ID, manifest_subject
from r1prov.attest.statements import STATEMENT_TYPE, timestamp
from r1prov.errors import BundleError
from r1prov.trust.bundle import (
    KeyMaterial,
    parse_dsse_bundle,
    with_timestamp,
    write_dsse_bundle,
)
from r1prov.trust.dsse import IN_TOTO_TYPE
from r1prov.trust.purpose import Purpose
from r1prov.trust.states import SignatureState, TimestampCheck, earliest
from r1prov.trust.store import TrustStore, standing
from r1prov.trust.timestamps import check_timestamps

if TYPE_CHECKING:
    from datetime import datetime

    from r1prov.evidence.index import Index
    from r1prov.trust.keys import Signer

EVIDENCE_TYPE: Final = "urn:r1prov:evidence:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What became of a bundle's signature.

    Attributes:
        state: Only `GOOD` counts.
        detail: One sentence.
        key_id: Key that made it, or the key that it names.
        owner: Whose that is; None if it is unknown.
        timestamps: Timestamps over it.
    """

    state: SignatureState
    detail: str
    key_id: str
    owner: str | None
    timestamps: tuple[TimestampCheck, ...] = ()

    @property
    def proven(self) -> datetime | None:
        """The earliest moment before which the bundle is proven to have been signed."""
        return earliest(self.timestamps)


def statement_of(index: Index, raw_index: bytes) -> bytes:
    """The statement about an index: it follows from the index, byte for byte."""
    subjects = [("index.json", hashlib.sha256(raw_index).hexdigest())]
    manifest = next((one for one in index.parts if one.path == index.manifest), None)
    if manifest is not None:
        subjects.append((manifest_subject(index.model), manifest.sha256))
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
        "predicateType": EVIDENCE_TYPE,
        "predicate": {
            "verifier": {"id": VERIFIER_ID, "version": {"r1prov": index.version}},
            "timeCreated": timestamp(index.created),
            "model": index.model,
            "verdict": index.verdict.value,
        },
    }
    return json.dumps(value, separators=(",", ":")).encode()


def sign_index(key: Signer, index: Index, raw_index: bytes) -> bytes:
    """The signature file of an index."""
    return sign_statement(key, statement_of(index, raw_index))


def check_signature(
    raw: bytes, index: Index, raw_index: bytes, trust: TrustStore, *, now: datetime, subject: str
) -> Signature:
    """Who signed an index, and whether they may.

    Args:
        raw: The signature file.
        index: The index.
        raw_index: Its bytes.
        trust: The pinned keys and authorities.
        now: When validity is judged where no timestamp proves an earlier time.
        subject: The bundle, for messages.

    Raises:
        BundleError: The signature file is malformed, or holds a byte that means nothing.
    """
    where = f"{subject}, index.json.sigstore.json"
    bundle = parse_dsse_bundle(raw, subject=where)
    material, envelope = bundle.material, bundle.envelope
    if not isinstance(material, KeyMaterial) or material.key is not None or bundle.log_entries:
        raise BundleError(f"{where} is not signed with a key that it names", subject=where)
    again = write_dsse_bundle(envelope, {"publicKey": {"hint": material.hint}})
    for stamp in bundle.timestamps:
        again = with_timestamp(again, stamp, subject=where)
    named = envelope.signatures[0].key_id
    if again != raw or named != material.hint:
        raise BundleError(f"{where} is not written as r1prov writes it", subject=where)
    key = next((one for one in trust.keys if one.key.key_id == named), None)
    if key is None:
        detail = f"signed by key {named or '(unnamed)'}, which is not among the pinned keys"
        return Signature(state=SignatureState.UNKNOWN_KEY, detail=detail, key_id=named, owner=None)
    bad = SignatureState.BAD_SIGNATURE
    if envelope.payload_type != IN_TOTO_TYPE or not envelope.signed_by(key.key):
        detail = f"not a signature by the key it names, of {key.owner}"
        return Signature(state=bad, detail=detail, key_id=named, owner=key.owner)
    if envelope.payload != statement_of(index, raw_index):
        detail = f"{key.owner} signed another index than this one, or something else"
        return Signature(state=bad, detail=detail, key_id=named, owner=key.owner)
    stamps = check_timestamps(
        bundle.timestamps, envelope.signatures[0].signature, trust.timestamp_authorities, now=now
    )
    state, detail = standing(key, index.model, now, earliest(stamps), Purpose.ATTESTATIONS)
    return Signature(state=state, detail=detail, key_id=named, owner=key.owner, timestamps=stamps)
