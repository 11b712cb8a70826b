"""An OpenSSF Model Signing bundle as a file, who signed it, and whether a model is what it says.

Nothing of a statement is looked at before its signature is that of a key the caller trusts. What
such a key may sign today is judged by the trust store, as for manifests.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import OmsError
from r1prov.limits import MAX_OMS_BUNDLE_BYTES
from r1prov.manifest.oms import OmsBundle, OmsFinding, OmsResult, parse_oms_bundle, verify_oms
from r1prov.manifest.oms_signature import OmsSigner, key_hints, verify_with_key
from r1prov.manifest.oms_statement import parse_statement, path_fault
from r1prov.stores.base import EntryKind
from r1prov.stores.local import LocalStore
from r1prov.text import plural, quoted
from r1prov.trust.bundle import KeyMaterial, MessageBundle
from r1prov.trust.directories import read_file
from r1prov.trust.dsse import pre_authentication_encoding
from r1prov.trust.store import SignatureCheck, SignatureState, TrustDecision, TrustStore
from r1prov.trust.store import decide as decide_trust
from r1prov.verify.checks.provenance import check_signatures
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Part,
    Verdict,
    decide,
    finding,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from r1prov.manifest.oms_statement import OmsStatement
    from r1prov.stores.base import Store
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keyless import KeylessPolicy
    from r1prov.trust.keys import PublicKey


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle and where it lies; nothing of it is verified."""

    path: Path
    bundle: OmsBundle

    @property
    def raw(self) -> bytes:
        """The bytes of the file."""
        return self.bundle.bundle.raw

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.raw).hexdigest()

    def inside(self, store: Store) -> tuple[str, ...]:
        """Its path in a model that it lies in: no signature can list its own file."""
        if not isinstance(store, LocalStore):
            return ()
        path = os.path.relpath(os.path.realpath(self.path), store.location)
        outside = path.split(os.sep)[0] in (os.pardir, os.curdir)
        return () if outside or path_fault(path) is not None else (path,)


def read_bundle(named: str) -> BundleFile | None:
    """Read what `--manifest` names if it is a bundle: a file whose first character is `{`.

    Returns:
        None if it is anything else, such as the name of a model or a manifest in TOML.

    Raises:
        BundleError: It begins as a bundle and is none.
        LimitExceeded: More signatures than any bundle has.
        InputError: It is larger than any bundle or manifest.
        StoreError: It cannot be read.
    """
    path = Path(named)
    if not path.is_file():
        return None
    raw = read_file(path, MAX_OMS_BUNDLE_BYTES)
    if not raw.lstrip().startswith(b"{"):
        return None
    return BundleFile(path, parse_oms_bundle(raw, path.name))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose signature a bundle carries, by the trust store.

    Attributes:
        decision: What the trust store says of it.
        key: The key that made it; None if no key of the trust store did.
        statement: What was signed; None without such a key, or if it is no statement.
        findings: Why it does not count.
    """

    decision: TrustDecision
    key: PublicKey | None
    statement: OmsStatement | None
    findings: tuple[Finding, ...]

    @property
    def owner(self) -> str:
        """Whose key it is."""
        return self.decision.checks[0].owner or "unknown signer"

    def signers(self) -> tuple[str, ...]:
        """One line a signature, as reports have it."""
        return tuple(
            f"{one.owner or 'unknown signer'}, key {one.key_id[:8] or 'unnamed'}: "
            + one.state.name.lower().replace("_", " ")
            for one in self.decision.checks
        )


def attribute(file: BundleFile, trust: TrustStore, now: datetime) -> Attribution:
    """Find the key of the trust store that signed a bundle, and whether it may.

    A bundle names its key in other words than the trust store, so the key is found here; validity,
    revocation, scope and threshold are then decided as for manifests, the signed bytes being the
    pre-authentication encoding of the envelope.
    """
    name, bundle = file.bundle.subject, file.bundle.bundle
    key = _signing_key(file, trust)
    if isinstance(key, OmsFinding):
        state = SignatureState.UNKNOWN_KEY
        if key.rule != "signer-unknown":
            state = SignatureState.BAD_SIGNATURE
        hint = bundle.material.hint if isinstance(bundle.material, KeyMaterial) else ""
        check = SignatureCheck(name, hint, None, state, key.message)
        return Attribution(_untrusted(check), None, None, (as_finding(key),))
    envelope = bundle.envelope
    try:
        statement = parse_statement(envelope.payload, envelope.payload_type, subject=name)
    except OmsError as error:
        broken = finding(
            error.rule,
            name,
            error.message,
            expected=error.expected,
            found=error.found,
            hint=error.hint,
        )
        owner = next(one.owner for one in trust.keys if one.key == key)
        check = SignatureCheck(name, key.key_id, owner, SignatureState.GOOD, "signs no statement")
        return Attribution(_untrusted(check), key, None, (broken,))
    signed = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    message = MessageBundle(
        key.key_id, hashlib.sha256(signed).digest(), envelope.signatures[0].signature
    )
    decision = decide_trust(
        trust, model=statement.name, data=signed, bundles=[(name, message)], now=now
    )
    return Attribution(decision, key, statement, tuple(check_signatures(decision, name)))


def _untrusted(check: SignatureCheck) -> TrustDecision:
    return TrustDecision(trusted=False, checks=(check,), good_keys=0, threshold=1)


def _signing_key(file: BundleFile, trust: TrustStore) -> PublicKey | OmsFinding:
    """The key of the trust store that made the signature, or why there is none."""
    name, bundle = file.bundle.subject, file.bundle.bundle
    material = bundle.material
    if not isinstance(material, KeyMaterial):
        return OmsFinding(
            "signer-unknown",
            name,
            "signed with a certificate, and a trust store holds keys",
            expected="signed with a key of the trust store",
            found="signed with a certificate",
            hint="`r1prov manifest verify` takes root certificates, or identity and issuer",
        )
    named = None
    for one in trust.keys:
        answer = verify_with_key(bundle, name, one.key)
        if isinstance(answer, OmsSigner):
            return one.key
        # A key that the bundle names, and that did not make the signature.
        carried = material.key is not None and answer.rule in ("signature-invalid", "oms-bundle")
        if answer.rule != "signer-unknown" and (material.hint in key_hints(one.key) or carried):
            named = answer
    which = f"key {quoted(material.hint, limit=100)}" if material.hint else "a key it does not name"
    return named or OmsFinding(
        "signer-unknown",
        name,
        "no key of the trust store made the signature",
        expected=f"one of {plural(len(trust.keys), 'trusted key')}",
        found=which,
    )


def as_finding(one: OmsFinding, part: Part = Part.MODEL) -> Finding:
    """The finding of the rule table for one of OMS."""
    return finding(
        one.rule,
        one.subject,
        one.message,
        expected=one.expected,
        found=one.found,
        hint=one.hint,
        part=part,
    )


def watch(
    store: Store, progress: Callable[[int], Callable[[int], None]] | None
) -> Callable[[int], None] | None:
    """A callback for bytes done, of all that the store holds."""
    if progress is None:
        return None
    return progress(sum(one.size for one in store.entries() if one.kind is EntryKind.FILE))


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whose signature is good; exactly one of the first four is given.

    Attributes:
        store: The trust store.
        public_key: One key.
        roots: Root certificates.
        keyless: Identity and issuer of a keyless signature.
        identity: What the certificate must name, with `roots`.
    """

    store: TrustStore | None = None
    public_key: PublicKey | None = None
    roots: Sequence[Certificate] = ()
    keyless: KeylessPolicy | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """What came of holding a model against a bundle, and nothing else.

    Attributes:
        verdict: Incomplete where a file could not be read.
        signers: Who signed, a line each.
        findings: Every reason not to accept the model.
        result: What was signed and hashed; None if no trusted key signed a statement.
    """

    verdict: Verdict
    signers: tuple[str, ...]
    findings: tuple[Finding, ...]
    result: OmsResult | None


def check_bundle(
    file: BundleFile,
    store: Store,
    trusted: Trusted,
    *,
    now: datetime | None = None,
    ignore_unsigned_files: bool = False,
    allow_symlinks: bool = False,
    ignore_paths: Sequence[str] = (),
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> BundleCheck:
    """Hold a model against a bundle as its specification says, without the checks of `verify`.

    Args:
        file: The bundle.
        store: The model.
        trusted: Whose signature is good.
        now: When validity of keys and certificates is judged; None is the present.
        ignore_unsigned_files: Whether files that are not signed may be there.
        allow_symlinks: Whether links inside the model are followed, where the signer did too.
        ignore_paths: Paths in the model that may be there unsigned, with all beneath them.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.

    Raises:
        UsageError: An extra is not installed, or an ignored path is none.
        TrustFileError: The Sigstore trusted root is malformed.
        LimitExceeded: The store holds more than a model does.
        StoreError: The store cannot be listed.
    """
    when = now or datetime.now(UTC)
    key = trusted.public_key
    signers: tuple[str, ...] = ()
    findings: list[Finding] = []
    if trusted.store is not None:
        signed = attribute(file, trusted.store, when)
        key, signers, findings = signed.key, signed.signers(), [*signed.findings]
        if signed.statement is None:
            return BundleCheck(Verdict.FAIL, signers, signed.findings, None)
    result = verify_oms(
        file.bundle,
        store,
        public_key=key,
        certificate_roots=trusted.roots,
        keyless=trusted.keyless,
        identity=trusted.identity,
        at=when,
        ignore_unsigned_files=ignore_unsigned_files,
        allow_symlinks=allow_symlinks,
        ignore_paths=(*ignore_paths, *file.inside(store)),
        on_bytes=watch(store, progress),
    )
    if trusted.store is None and result.signer is not None:
        signers = (_described(result.signer),)
    findings += [as_finding(one) for one in result.findings]
    unread = [
        Coverage(one.subject, CoverageState.UNREAD, one.message)
        for one in result.findings
        if one.rule == "file-unread"
    ]
    return BundleCheck(decide(tuple(findings), tuple(unread)), signers, tuple(findings), result)


def _described(signer: OmsSigner) -> str:
    if signer.method == "key":
        return f"the given key {signer.key_id}"
    who = ", ".join(signer.identities) or signer.name or "a certificate without a name"
    by = f", vouched for by {signer.issuer}" if signer.issuer else ""
    return f"{signer.method}: {who}{by}, key {signer.key_id[:8]}"
