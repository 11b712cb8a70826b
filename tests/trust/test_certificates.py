"""Certificates and chains: what leads to a trusted root, and everything that must not."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import CertificateError
from r1prov.limits import MAX_CHAIN_DEPTH, MAX_CHAIN_SIGNATURE_CHECKS
from r1prov.trust.certificates import (
    ChainDecision,
    parse_certificate,
    parse_certificates,
    verify_chain,
)

NOW = datetime.now(UTC)
TLS = (ExtendedKeyUsageOID.SERVER_AUTH,)


def usage(**bits: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def chain(*issued: Any, roots: Any, at: datetime = NOW) -> ChainDecision:
    leaf, *issuers = [one.certificate for one in issued]
    return verify_chain(leaf, issuers, [one.certificate for one in roots], at=at)


def rule_of(decision: ChainDecision) -> str:
    assert decision.path == ()
    assert decision.fault is not None
    assert decision.fault.expected
    assert decision.fault.found
    return decision.fault.rule


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p521", "ed25519", "rsa-pss-3072"])
def test_a_chain(authority: Any, algorithm: str) -> None:
    root = authority.root(algorithm=algorithm)
    middle = authority.issue("middle", root, ca=True, algorithm=algorithm)
    leaf = authority.leaf(middle)
    decision = chain(leaf, middle, roots=[root])
    assert [one.subject for one in decision.path] == ["CN=signer", "CN=middle", "CN=root"]
    assert decision.fault is None
    # Helpers in any order, also beside the root, and the root in the bundle.
    assert chain(leaf, root, middle, roots=[root]).fault is None
    assert chain(leaf, roots=[middle, root]).fault is None
    assert decision.path[0].identities == ("signer@example.org",)


def test_nothing_in_the_bundle_is_trusted(authority: Any) -> None:
    root, other = authority.root(), authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    # The other root has the name of the right one.
    assert rule_of(chain(leaf, middle, root, roots=[other])) == "certificate-untrusted"
    assert rule_of(chain(leaf, roots=[root])) == "certificate-untrusted"
    # An intermediate alone is no root.
    assert rule_of(chain(leaf, middle, roots=[middle])) == "certificate-untrusted"
    assert rule_of(chain(leaf, middle, roots=[])) == "certificate-untrusted"


def test_a_self_signed_signer_is_its_own_root_if_given(authority: Any) -> None:
    own = authority.issue("self")
    assert [one.subject for one in chain(own, roots=[own]).path] == ["CN=self"]
    other = authority.issue("self")
    assert rule_of(chain(own, own, roots=[other])) == "certificate-untrusted"


@pytest.mark.parametrize("which", ["root", "middle", "leaf"])
@pytest.mark.parametrize(("days", "word"), [((-20, -1), "expired"), ((1, 20), "not valid yet")])
def test_validity_of_every_certificate(
    authority: Any, which: str, days: tuple[int, int], word: str
) -> None:
    def how(name: str) -> dict[str, Any]:
        return {"days": days} if name == which else {}

    root = authority.root(**how("root"))
    middle = authority.issue("middle", root, ca=True, **how("middle"))
    leaf = authority.leaf(middle, **how("leaf"))
    decision = chain(leaf, middle, roots=[root])
    assert rule_of(decision) == "certificate-expired"
    assert decision.fault is not None
    assert word in decision.fault.message
    if word == "expired":
        # At a time that is proven, it was valid; the others only from yesterday on.
        when = leaf.certificate.not_before if which == "leaf" else None
        assert when is None or rule_of(chain(leaf, middle, roots=[root], at=when))


def test_the_ends_of_validity_count(authority: Any) -> None:
    root = authority.root()
    leaf = authority.leaf(root, days=(-0.5, 1)).certificate
    trusted = [root.certificate]
    second = timedelta(seconds=1)
    for at, good in (
        (leaf.not_before, True),
        (leaf.not_before - second, False),
        (leaf.not_after, True),
        (leaf.not_after + second, False),
    ):
        assert (verify_chain(leaf, [], trusted, at=at).fault is None) == good


@pytest.mark.parametrize(
    "how",
    [
        {"purposes": TLS},
        {"purposes": None},
        {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
        {"key_usage": usage(key_encipherment=True)},
        {"key_usage": usage(content_commitment=True)},
        {"digest": hashes.SHA224()},
        {"extensions": [(x509.OCSPNoCheck(), True)]},
        {"extensions": [(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b""), True)]},
    ],
)
def test_signers_that_may_not_sign(authority: Any, how: dict[str, Any]) -> None:
    root = authority.root()
    assert rule_of(chain(authority.leaf(root, **how), roots=[root])) == "certificate-usage"


@pytest.mark.parametrize(
    "how",
    [
        {"key_usage": None},
        {"purposes": (*TLS, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"basic": False},
        {
            "ca": True,
            "key_usage": usage(digital_signature=True),
            "purposes": (ExtendedKeyUsageOID.CODE_SIGNING,),
        },
        {"extensions": [(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b""), False)]},
        {
            "extensions": [
                (
                    x509.CertificatePolicies(
                        [x509.PolicyInformation(ObjectIdentifier("1.2.3.4"), None)]
                    ),
                    True,
                )
            ]
        },
    ],
)
def test_signers_that_may(authority: Any, how: dict[str, Any]) -> None:
    root = authority.root()
    assert chain(authority.leaf(root, **how), roots=[root]).fault is None


NAMES = x509.NameConstraints([x509.DNSName("example.org")], None)


@pytest.mark.parametrize(
    "how",
    [
        {"ca": False, "key_usage": usage(key_cert_sign=True)},
        {"ca": True, "key_usage": usage(digital_signature=True)},
        {"basic": False, "key_usage": usage(key_cert_sign=True)},
        {"ca": True, "purposes": TLS},
        {"ca": True, "extensions": [(NAMES, True)]},
        {"ca": True, "extensions": [(NAMES, False)]},
        {"ca": True, "digest": hashes.SHA224()},
    ],
)
def test_issuers_that_may_not_issue(authority: Any, how: dict[str, Any]) -> None:
    root = authority.root()
    middle = authority.issue("middle", root, **{"purposes": None, "email": None, **how})
    leaf = authority.leaf(middle)
    assert rule_of(chain(leaf, middle, roots=[root])) == "certificate-usage"
    # The same as a root.
    bad = authority.issue("bad", **{"purposes": None, "email": None, **how})
    assert rule_of(chain(authority.leaf(bad), roots=[bad])) == "certificate-usage"


def test_a_signer_issues_nothing(authority: Any) -> None:
    root = authority.root()
    signer = authority.leaf(root, "honest")
    forged = authority.leaf(signer, "forged")
    assert rule_of(chain(forged, signer, roots=[root])) == "certificate-usage"


def test_path_length(authority: Any) -> None:
    root = authority.root(path_length=1)
    one = authority.issue("one", root, ca=True)
    two = authority.issue("two", one, ca=True)
    assert chain(authority.leaf(one), one, roots=[root]).fault is None
    assert rule_of(chain(authority.leaf(two), two, one, roots=[root])) == "certificate-usage"
    none = authority.issue("none", root, ca=True, path_length=0)
    below = authority.issue("below", none, ca=True)
    assert chain(authority.leaf(none), none, roots=[root]).fault is None
    assert rule_of(chain(authority.leaf(below), below, none, roots=[root])) == "certificate-usage"


def test_a_new_key_of_an_issuer_takes_no_place_in_the_chain(authority: Any) -> None:
    """RFC 5280 §4.2.1.9: a certificate of its own name is not counted."""
    root = authority.root(path_length=0)
    renewed = authority.issue("root", root, ca=True)
    assert chain(authority.leaf(renewed), renewed, roots=[root]).fault is None
    one = authority.issue("one", renewed, ca=True)
    found = chain(authority.leaf(one), one, renewed, roots=[root])
    assert rule_of(found) == "certificate-usage"


def test_another_path_is_found_around_a_bad_certificate(authority: Any) -> None:
    root = authority.root()
    good = authority.issue("middle", root, ca=True)
    expired = authority.issue("middle", root, ca=True, days=(-9, -2), key=good.key)
    leaf = authority.leaf(good)
    assert chain(leaf, expired, good, roots=[root]).fault is None
    assert rule_of(chain(leaf, expired, roots=[root])) == "certificate-expired"


def test_long_and_tangled_chains_end(authority: Any) -> None:
    root = authority.root()
    issuers = [root]
    for number in range(MAX_CHAIN_DEPTH):
        issuers.append(authority.issue(f"m{number}", issuers[-1], ca=True))
    leaf = authority.leaf(issuers[-1])
    assert rule_of(chain(leaf, *issuers[:0:-1], roots=[root])) == "certificate-untrusted"
    short = authority.leaf(issuers[-3])
    assert chain(short, *issuers[-3:0:-1], roots=[root]).fault is None
    # Many certificates of one name and key: every order of them would be a path.
    key = issuers[1].key
    loop = [authority.issue("x", None, ca=True, key=key) for _ in range(15)]
    tangled = authority.leaf(loop[0])
    began = time.monotonic()
    assert rule_of(chain(tangled, *loop, roots=[root])) == "certificate-untrusted"
    assert time.monotonic() - began < 2
    assert MAX_CHAIN_SIGNATURE_CHECKS < 15 * 14


def test_an_altered_certificate_is_another(authority: Any) -> None:
    root = authority.root()
    der = bytearray(authority.leaf(root).der)
    der[-1] ^= 1
    altered = parse_certificate(bytes(der), subject="x")
    fault = verify_chain(altered, [], [root.certificate], at=NOW).fault
    assert fault is not None
    assert fault.rule == "certificate-untrusted"


def test_version_1_is_refused(authority: Any, tmp_path: Any) -> None:
    import subprocess

    key, pem = tmp_path / "k", tmp_path / "c"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            key,
            "-subj",
            "/CN=v3",
            "-days",
            "2",
            "-out",
            pem,
        ],
        check=True,
        capture_output=True,
    )
    request = tmp_path / "r"
    subprocess.run(
        ["openssl", "req", "-new", "-key", key, "-subj", "/CN=v1", "-out", request],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        ["openssl", "x509", "-req", "-in", request, "-CA", pem, "-CAkey", key, "-days", "1"],
        check=True,
        capture_output=True,
    )
    (old,) = parse_certificates(done.stdout, subject="v1")
    (root,) = parse_certificates(pem.read_bytes(), subject="v3")
    fault = verify_chain(old, [], [root], at=datetime.now(UTC)).fault
    assert fault is not None
    assert fault.rule == "certificate-usage"


def test_pem_files(authority: Any) -> None:
    root, other = authority.root(), authority.root("other")
    text = (
        b"# Private roots\n" + root.pem + b"\nIssuer: other\n" + other.pem.replace(b"\n", b"\r\n")
    )
    assert parse_certificates(text, subject="roots.pem") == (root.certificate, other.certificate)
    from r1prov.trust.keys import encode_private_key

    private = encode_private_key(root.key, None)
    for bad in (
        b"",
        b"not PEM",
        root.pem + private,
        root.key.public.pem(),
        root.pem + root.key.public.pem(),
        root.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        root.pem[:-40],
        root.pem.replace(b"MII", b"MIJ", 1),
        root.pem + b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        b" " * (1024 * 1024) + root.pem,
        authority.issue("leaf").pem * 1001,
    ):
        with pytest.raises(CertificateError) as caught:
            parse_certificates(bad, subject="roots.pem")
        assert "roots.pem" in caught.value.message
        assert private.splitlines()[1].decode() not in caught.value.message


def test_keys_that_are_not_taken() -> None:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    for key in (
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ):
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        from cryptography.hazmat.primitives.serialization import Encoding

        with pytest.raises(CertificateError, match="the key of weak"):
            parse_certificate(made.public_bytes(Encoding.DER), subject="weak")


@pytest.fixture(scope="module")
def good(authority: Any) -> bytes:
    der: bytes = authority.leaf(authority.root()).der
    return der


@given(st.data())
def test_nothing_else_escapes(good: bytes, data: st.DataObject) -> None:
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CertificateError):
        parse_certificate(bytes(raw), subject="x")


@given(st.binary(max_size=200))
def test_noise_is_no_certificate(raw: bytes) -> None:
    with pytest.raises(CertificateError):
        parse_certificate(raw, subject="x")
    with pytest.raises(CertificateError):
        parse_certificates(raw, subject="x")
