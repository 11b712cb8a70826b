"""The signature of a bundle: an in-toto statement about its index, DSSE in a Sigstore bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from r1prov.attest.create import sign_statement
from r1prov.attest.names import VERIFIER_ID, manifest_subject
from r1prov.attest.statements import STATEMENT_TYPE, timestamp
from r1prov.errors import BundleError, CertificateError
from r1prov.text import quoted
from r1prov.trust.bundle import (
    ChainMaterial,
    KeyMaterial,
    parse_dsse_bundle,
    with_timestamp,
    write_dsse_bundle,
)
from r1prov.trust.chains import chain_material
from r1prov.trust.dsse import IN_TOTO_TYPE
from r1prov.trust.purpose import Purpose
from r1prov.trust.states import SignatureCheck, SignatureState, TimestampCheck, earliest
from r1prov.trust.store import TrustStore, read_chain, standing, standing_certified
from r1prov.trust.timestamps import check_timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from r1prov.evidence.index import Index
    from r1prov.trust.bundle import DsseBundle
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import PublicKey, Signer

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
        member: The file that it stands in.
        check: What a threshold counts; None of one that is not by whom it names.
    """

    state: SignatureState
    detail: str
    key_id: str
    owner: str | None
    timestamps: tuple[TimestampCheck, ...] = ()
    member: str = "index.json.sigstore.json"
    check: SignatureCheck | None = None

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


def sign_index(
    key: Signer, index: Index, raw_index: bytes, certificates: Sequence[Certificate] = ()
) -> bytes:
    """The signature file of an index."""
    return sign_statement(key, statement_of(index, raw_index), certificates)


def check_signature(
    raw: bytes,
    *,
    index: Index,
    raw_index: bytes,
    trust: TrustStore,
    now: datetime,
    subject: str,
    member: str = "index.json.sigstore.json",
) -> Signature:
    """Who signed an index, and whether they may.

    Args:
        raw: The signature file.
        index: The index.
        raw_index: Its bytes.
        trust: The pinned keys and authorities.
        now: When validity is judged where no timestamp proves an earlier time.
        subject: The bundle, for messages.
        member: The signature file, for messages.

    Raises:
        BundleError: The signature file is malformed, or holds a byte that means nothing.
    """
    where = f"{subject}, {member}"
    bundle = parse_dsse_bundle(raw, subject=where)
    material, envelope = bundle.material, bundle.envelope
    named = envelope.signatures[0].key_id
    _check_form(bundle, raw, named, where)
    if isinstance(material, ChainMaterial):
        signer = _by_certificate(material, named, trust, index.model, now, member)
    else:
        signer = _by_key(named, trust, index.model, now, member)
    if isinstance(signer, Signature):
        return signer
    bad = partial(_refused, SignatureState.BAD_SIGNATURE, named, member, owner=signer.owner)
    if envelope.payload_type != IN_TOTO_TYPE or not envelope.signed_by(signer.key):
        return bad(f"not a signature by the key it names, of {signer.who}")
    if envelope.payload != statement_of(index, raw_index):
        return bad(f"{signer.who} signed another index than this one, or something else")
    stamps = check_timestamps(
        bundle.timestamps, envelope.signatures[0].signature, trust.timestamp_authorities, now=now
    )
    made = signer.judge(stamps)
    return Signature(
        state=made.state,
        detail=made.detail,
        key_id=made.key_id,
        owner=made.owner,
        timestamps=stamps,
        member=member,
        check=made,
    )


@dataclass(frozen=True, slots=True)
class _Signer:
    """Whose signature it should be, and what decides whether they may."""

    key: PublicKey
    owner: str | None
    who: str
    judge: Callable[[tuple[TimestampCheck, ...]], SignatureCheck]


def _by_key(
    named: str, trust: TrustStore, model: str, now: datetime, member: str
) -> _Signer | Signature:
    known = next((one for one in trust.keys if one.key.key_id == named), None)
    if known is None:
        detail = f"signed by key {named or '(unnamed)'}, which is not among the pinned keys"
        return _refused(SignatureState.UNKNOWN_KEY, named, member, detail)

    def judge(stamps: tuple[TimestampCheck, ...]) -> SignatureCheck:
        state, detail = standing(known, model, now, earliest(stamps), Purpose.ATTESTATIONS)
        return SignatureCheck(member, named, known.owner, state, detail, timestamps=stamps)

    return _Signer(known.key, known.owner, known.owner, judge)


def _by_certificate(
    material: ChainMaterial, named: str, trust: TrustStore, model: str, now: datetime, member: str
) -> _Signer | Signature:
    try:
        leaf, *issuers = read_chain(material.certificates, subject=member)
    except CertificateError as error:
        return _refused(SignatureState.CERTIFICATE_USAGE, named, member, error.message)
    if leaf.key.key_id != named:
        detail = "the certificate is of another key than the one that is named"
        return _refused(SignatureState.BAD_SIGNATURE, named, member, detail)

    def judge(stamps: tuple[TimestampCheck, ...]) -> SignatureCheck:
        return standing_certified(
            trust,
            leaf,
            issuers,
            name=member,
            model=model,
            now=now,
            stamps=stamps,
            purpose=Purpose.ATTESTATIONS,
        )

    return _Signer(leaf.key, None, f"the certificate of {quoted(leaf.subject)}", judge)


def _check_form(bundle: DsseBundle, raw: bytes, named: str, where: str) -> None:
    """Every byte of a signature file means something."""
    material = bundle.material
    if isinstance(material, ChainMaterial):
        again = write_dsse_bundle(bundle.envelope, chain_material(material.certificates))
    elif isinstance(material, KeyMaterial) and material.key is None and material.hint == named:
        again = write_dsse_bundle(bundle.envelope, {"publicKey": {"hint": named}})
    else:
        raise BundleError(f"{where} is not signed with a key that it names", subject=where)
    for stamp in bundle.timestamps:
        again = with_timestamp(again, stamp, subject=where)
    if again != raw:
        raise BundleError(f"{where} is not written as r1prov writes it", subject=where)


def _refused(
    state: SignatureState, key_id: str, member: str, detail: str, owner: str | None = None
) -> Signature:
    return Signature(state=state, detail=detail, key_id=key_id, owner=owner, member=member)
