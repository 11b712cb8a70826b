"""Keys on a real token: SoftHSM signs, `cryptography` and OpenSSL verify, and mistakes are told."""

from __future__ import annotations

import contextlib
import gc
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass

from r1prov.errors import KeyFileError, NotFound, R1ProvError, TokenError, UsageError
from r1prov.trust import token_module
from r1prov.trust.keys import GENERATED, generate_private_key
from r1prov.trust.token_key import (
    TokenKey,
    _ecdsa_der,
    open_token_key,
    read_pin,
    token_public_key,
)
from r1prov.trust.token_module import load_module, token_errors
from r1prov.trust.token_uri import parse_token_uri

DATA = b'schema = "r1prov/manifest/1"\n'


def no_pin() -> str:
    raise AssertionError("nobody should ask for a PIN")


@contextlib.contextmanager
def opened(hsm: Any, uri: str, pin: str | None = None) -> Iterator[TokenKey]:
    key = open_token_key(parse_token_uri(uri), lambda: hsm.pin if pin is None else pin)
    try:
        yield key
    finally:
        key.close()


def refused(hsm: Any, uri: str, pin: str | None = None) -> R1ProvError:
    with pytest.raises(R1ProvError) as caught, opened(hsm, uri, pin):
        pass
    told = f"{caught.value} {caught.value.subject} {caught.value.hint}"
    assert hsm.pin not in told
    assert not pin or pin not in told
    assert caught.value.__cause__ is None
    return caught.value


@contextlib.contextmanager
def made(hsm: Any, make: Callable[[Any], Any]) -> Iterator[None]:
    """Objects that are on the token while a test runs."""
    with hsm.session() as session:
        names = (Attribute.CLASS, Attribute.LABEL, Attribute.ID)
        objects = [{name: one[name] for name in names} for one in make(session)]
    yield
    with hsm.session() as session:
        for wanted in objects:
            (one,) = session.get_objects(wanted)
            one.destroy()


def rsa_pair(label: str, key_id: bytes = b"\x20", **how: Any) -> Callable[[Any], Any]:
    return lambda session: session.generate_keypair(
        KeyType.RSA, 2048, store=True, label=label, id=key_id, **how
    )


# ------------------------------------------------------------------ signing


@pytest.mark.parametrize("algorithm", GENERATED)
def test_every_kind_signs(algorithm: str, hsm: Any, tmp_path: Path) -> None:
    kind = {"rsa-pss-3072": "rsa-pss-sha256", "ed25519": "ed25519"}
    with opened(hsm, hsm.uri(algorithm)) as key:
        assert key.public.algorithm.startswith(kind.get(algorithm, algorithm))
        assert token_public_key(parse_token_uri(hsm.uri(algorithm)), no_pin) == key.public
        for data in (b"", DATA, bytes(100_000)):
            signature = key.sign(data)
            assert key.public.verify(signature, data)
            assert not key.public.verify(signature, data + b"x")
        signature = key.sign(DATA)
    for name, content in (("pub", key.public.pem()), ("sig", signature), ("data", DATA)):
        (tmp_path / name).write_bytes(content)
    assert openssl_verifies(tmp_path, key.public.algorithm)
    (tmp_path / "data").write_bytes(DATA + b"\n")
    assert not openssl_verifies(tmp_path, key.public.algorithm)


@given(st.sampled_from([32, 48, 66]), st.data())
def test_numbers_of_every_length(size: int, data: st.DataObject) -> None:
    """Some begin with zeros, or with a bit that DER must not take for a sign."""
    numbers = st.integers(0, 256**size - 1) | st.integers(0, 8 * size - 1).map((1).__lshift__)
    r, s = data.draw(numbers), data.draw(numbers)
    assert decode_dss_signature(_ecdsa_der(r.to_bytes(size) + s.to_bytes(size))) == (r, s)


def openssl_verifies(home: Path, algorithm: str) -> bool:
    program = shutil.which("openssl")
    assert program is not None, "openssl is missing: install it"
    how = {
        "ed25519": ["-rawin"],
        "rsa-pss-sha256": [
            *("-rawin", "-digest", "sha256", "-pkeyopt", "rsa_padding_mode:pss"),
            *("-pkeyopt", "rsa_pss_saltlen:32", "-pkeyopt", "rsa_mgf1_md:sha256"),
        ],
    }.get(algorithm, ["-rawin", "-digest", algorithm.rsplit("-", 1)[-1]])
    files = ["-pubin", "-inkey", "pub", "-sigfile", "sig", "-in", "data"]
    done = subprocess.run(
        [program, "pkeyutl", "-verify", *how, *files],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ("Verified Successfully" in done.stdout) == (done.returncode == 0), done.stderr
    return done.returncode == 0


def test_by_id_label_or_both(hsm: Any) -> None:
    public = token_public_key(parse_token_uri(hsm.uri("ed25519")), no_pin)
    number = GENERATED.index("ed25519") + 1
    for path in (f"id=%{number:02x}", f"object=ed25519;id=%{number:02x};type=private"):
        uri = f"pkcs11:token=release;{path}?module-path={hsm.module}"
        with opened(hsm, uri) as key:
            assert key.public == public
        assert token_public_key(parse_token_uri(uri), no_pin) == public
    error = refused(hsm, f"pkcs11:token=release;object=ed25519;id=%01?module-path={hsm.module}")
    assert "no such private key" in error.message


def test_every_attribute_of_the_token_counts(hsm: Any) -> None:
    library = pkcs11.lib(hsm.module)
    token = library.get_token(token_label="release")
    facts = {
        "serial": token.serial.decode(),
        "manufacturer": "SoftHSM%20project",
        "model": "SoftHSM%20v2",
        "slot-id": str(token.slot.slot_id),
        "slot-description": token.slot.slot_description.replace(" ", "%20"),
        "slot-manufacturer": "SoftHSM%20project",
        "library-manufacturer": "SoftHSM",
        "library-description": "Implementation%20of%20PKCS11",
        "library-version": ".".join(map(str, library.library_version)),
    }
    both = ";".join(f"{name}={value}" for name, value in facts.items())
    with opened(hsm, f"pkcs11:{both};object=ed25519?module-path={hsm.module}") as key:
        assert key.public.algorithm == "ed25519"
    for name in facts:
        wrong = {"slot-id": "1", "library-version": "1.1"}.get(name, "other")
        error = refused(hsm, f"pkcs11:token=release;{name}={wrong}?module-path={hsm.module}")
        assert "no token fits" in error.message, name


# ------------------------------------------------------------------ PIN


def test_a_wrong_pin_is_tried_once(hsm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def ask() -> str:
        tries.append(1)
        return "wrong pin"

    with pytest.raises(TokenError, match="PIN is wrong; it was tried once") as caught:
        open_token_key(parse_token_uri(hsm.uri()), ask)
    assert tries == [1]
    assert "wrong pin" not in f"{caught.value} {caught.value.hint}"
    # And the next one, in the same process, is not let in by what was before.
    with opened(hsm, hsm.uri()) as key:
        key.sign(DATA)
    assert "PIN is wrong" in refused(hsm, hsm.uri(), "wrong pin").message


@pytest.mark.parametrize("pin", ["", "a\0b", "a\udcffb"])
def test_what_is_no_pin(pin: str, hsm: Any) -> None:
    assert "the PIN is empty, or no text" in refused(hsm, hsm.uri(), pin).message


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_pin_from_a_file(end: str, hsm: Any, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(hsm.pin + end, newline="")
    uri = parse_token_uri(hsm.uri(query=f"&pin-source=file:{tmp_path}/pin"))
    key = open_token_key(uri, no_pin)
    assert key.public.verify(key.sign(DATA), DATA)
    key.close()


def test_a_pin_file_that_is_none(hsm: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_token_key(parse_token_uri(hsm.uri(query=f"&pin-source={tmp_path}/none")), no_pin)
    (tmp_path / "pin").write_bytes(b"\xffsecret")
    with pytest.raises(TokenError, match="not UTF-8") as caught:
        read_pin(tmp_path / "pin")
    assert "secret" not in str(caught.value)
    (tmp_path / "pin").write_bytes(b"1" * 2000)
    with pytest.raises(R1ProvError, match="larger than"):
        read_pin(tmp_path / "pin")
    (tmp_path / "pin").write_text("1234\n\n")
    assert read_pin(tmp_path / "pin") == "1234\n"


def test_no_pin_is_asked_for_where_there_is_no_such_token(hsm: Any) -> None:
    with pytest.raises(TokenError, match="no token fits") as caught:
        open_token_key(parse_token_uri(hsm.uri(token="lost")), no_pin)
    for label in ("`release`", "`spare`"):
        assert label in str(caught.value.hint)


def test_a_key_that_asks_at_every_signature(hsm: Any) -> None:
    always = rsa_pair("always", private_template={Attribute.ALWAYS_AUTHENTICATE: True})
    with made(hsm, always), opened(hsm, hsm.uri("always")) as key:
        for data in (DATA, b"more"):
            assert key.public.verify(key.sign(data), data)
        assert hsm.pin not in repr(key)


def test_a_token_says_what_went_wrong() -> None:
    """Each exception of the library, most of which SoftHSM never has a reason for."""
    kinds = [
        one
        for one in vars(pkcs11.exceptions).values()
        if isinstance(one, type) and issubclass(one, pkcs11.PKCS11Error)
    ]
    assert len(kinds) > 60
    for kind in (*kinds, ValueError, KeyError, UnicodeError, TypeError, MemoryError):
        with pytest.raises(TokenError, match=r"^name: ") as caught, token_errors("name"):
            raise kind("detail")
        assert caught.value.hint
        assert caught.value.__suppress_context__
    with pytest.raises(TokenError, match="the PIN is locked"), token_errors("x"):
        raise pkcs11.PinLocked
    assert set(token_module._EXPLAINED) <= {one.__name__ for one in kinds}


# ------------------------------------------------------------------ which key


def test_no_such_key(hsm: Any) -> None:
    assert "no such private key" in refused(hsm, hsm.uri("none")).message
    assert "no such private key" in refused(hsm, hsm.uri(token="spare")).message


def test_several_keys(hsm: Any) -> None:
    with made(hsm, rsa_pair("ecdsa-p256", b"\x30")):
        error = refused(hsm, hsm.uri())
        assert "2 private keys fit" in error.message
        assert "id=%01" in str(error.hint)
        assert "id=%30" in str(error.hint)
        with pytest.raises(TokenError, match="2 different public keys fit"):
            token_public_key(parse_token_uri(hsm.uri()), no_pin)
        uri = f"pkcs11:token=release;object=ecdsa-p256;id=0?module-path={hsm.module}"
        with opened(hsm, uri) as key:
            assert key.public.algorithm == "rsa-pss-sha256"
    assert "fit" in refused(hsm, f"pkcs11:token=release?module-path={hsm.module}").message


def test_several_tokens(hsm: Any) -> None:
    error = refused(hsm, f"pkcs11:object=ed25519?module-path={hsm.module}")
    assert "2 tokens fit" in error.message


def test_a_key_for_another_use(hsm: Any) -> None:
    with made(hsm, rsa_pair("decrypts", capabilities=MechanismFlag.DECRYPT)):
        assert "not for signing" in refused(hsm, hsm.uri("decrypts")).message


def test_kinds_of_keys_that_are_not_taken(hsm: Any) -> None:
    weak = lambda session: session.generate_keypair(  # noqa: E731
        KeyType.RSA, 1024, store=True, label="weak", id=b"\x21"
    )
    with made(hsm, weak):
        error = refused(hsm, hsm.uri("weak"))
        assert isinstance(error, KeyFileError)
        assert "RSA with 1024 bits" in error.message

    def koblitz(session: Any) -> Any:
        curve = {Attribute.EC_PARAMS: bytes.fromhex("06052b8104000a")}  # secp256k1
        domain = session.create_domain_parameters(KeyType.EC, curve, local=True)
        return domain.generate_keypair(store=True, label="koblitz", id=b"\x22")

    with made(hsm, koblitz):
        assert "kind that is not taken" in refused(hsm, hsm.uri("koblitz")).message
        with pytest.raises(KeyFileError, match="kind that is not taken"):
            token_public_key(parse_token_uri(hsm.uri("koblitz")), no_pin)

    def dsa(session: Any) -> Any:
        domain = session.generate_domain_parameters(KeyType.DSA, 1024)
        return domain.generate_keypair(store=True, label="dsa", id=b"\x23")

    with made(hsm, dsa):
        assert "kind that is not taken" in refused(hsm, hsm.uri("dsa")).message


# ------------------------------------------------------------------ the public half


def ec_pair(session: Any, label: str, key_id: bytes) -> Any:
    from pkcs11.util.ec import encode_named_curve_parameters

    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    domain = session.create_domain_parameters(KeyType.EC, curve, local=True)
    return domain.generate_keypair(store=True, label=label, id=key_id)


def test_the_public_half_is_found_by_the_id(hsm: Any) -> None:
    def renamed(session: Any) -> Any:
        public, private = ec_pair(session, "pair", b"\x24")
        public[Attribute.LABEL] = "its public half"
        return public, private

    with made(hsm, renamed), opened(hsm, hsm.uri("pair")) as key:
        assert key.public.verify(key.sign(DATA), DATA)


def test_pairs_with_one_id_are_told_by_the_label(hsm: Any) -> None:
    one = made(hsm, lambda session: ec_pair(session, "one", b"\x24"))
    two = made(hsm, lambda session: ec_pair(session, "two", b"\x24"))
    with one, two, opened(hsm, hsm.uri("one")) as key:
        assert key.public.verify(key.sign(DATA), DATA)


def test_a_pair_without_ids_is_found_by_the_label(hsm: Any) -> None:
    pair = made(hsm, lambda session: ec_pair(session, "plain", b""))
    other = made(hsm, lambda session: ec_pair(session, "other", b""))
    with other, pair, opened(hsm, hsm.uri("plain")) as key:
        assert key.public.verify(key.sign(DATA), DATA)


def test_a_public_key_that_is_not_its_own(hsm: Any) -> None:
    def crossed(session: Any) -> Any:
        public, other = ec_pair(session, "one", b"\x25")
        own, private = ec_pair(session, "two", b"\x26")
        own.destroy()
        other.destroy()
        public[Attribute.ID] = b"\x26"
        return public, private

    pair, fails = made(hsm, crossed), pytest.raises(TokenError, match="does not verify")
    with pair, opened(hsm, hsm.uri("two")) as key, fails:
        key.sign(DATA)


def test_no_public_key_but_a_certificate(hsm: Any, authority: Any) -> None:
    def alone(session: Any) -> Any:
        public, private = ec_pair(session, "certified", b"\x27")
        public.destroy()
        return (private,)

    def asked() -> str:
        return str(hsm.pin)

    uri = parse_token_uri(hsm.uri("certified"))
    with made(hsm, alone):
        assert "shows no public key" in refused(hsm, hsm.uri("certified")).message
        with pytest.raises(TokenError, match="shows no public key"):
            token_public_key(uri, asked)

    made_here = generate_private_key("ecdsa-p256")
    issued = authority.leaf(authority.root(), key=made_here)

    def imported(session: Any) -> Any:
        numbers = made_here._key.private_numbers()
        common = {Attribute.TOKEN: True, Attribute.LABEL: "certified", Attribute.ID: b"\x27"}
        private = session.create_object(
            {
                **common,
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: KeyType.EC,
                Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107"),
                Attribute.VALUE: numbers.private_value.to_bytes(32),
                Attribute.SIGN: True,
                Attribute.SENSITIVE: True,
            }
        )
        certificate = session.create_object(
            {
                **common,
                Attribute.CLASS: ObjectClass.CERTIFICATE,
                Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
                Attribute.SUBJECT: issued.x509.subject.public_bytes(),
                Attribute.VALUE: issued.der,
            }
        )
        return private, certificate

    with made(hsm, imported):
        with opened(hsm, hsm.uri("certified")) as key:
            assert key.public == made_here.public
            assert key.public.verify(key.sign(DATA), DATA)
        assert token_public_key(uri, no_pin) == made_here.public


POINTS = {
    "ecdsa-p256": ("06082a8648ce3d030107", "0441"),
    "ecdsa-p384": ("06052b81040022", "0461"),
    "ecdsa-p521": ("06052b81040023", "048185"),
    "ed25519": ("06032b6570", "0420"),
}


@pytest.mark.parametrize("algorithm", POINTS)
def test_how_tokens_write_points(algorithm: str, hsm: Any) -> None:
    """With the curve's object identifier, and the point in DER or, against the rule, plain."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = generate_private_key(algorithm)
    curve, head = map(bytes.fromhex, POINTS[algorithm])
    public = key._key.public_key()
    point = (
        public.public_bytes_raw()
        if algorithm == "ed25519"
        else public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )

    def stored(value: bytes) -> Callable[[Any], Any]:
        kind = KeyType.EC_EDWARDS if algorithm == "ed25519" else KeyType.EC
        item = {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: kind,
            Attribute.TOKEN: True,
            Attribute.LABEL: "stored",
            Attribute.ID: b"\x28",
            Attribute.EC_PARAMS: curve,
            Attribute.EC_POINT: value,
        }
        return lambda session: [session.create_object(item)]

    uri = parse_token_uri(hsm.uri("stored"))
    for value in (head + point, point):
        with made(hsm, stored(value)):
            assert token_public_key(uri, no_pin) == key.public
    wrong = (
        *(head + point + b"\0", head + point[:-1], point[:-1], point + b"\0", head, b""),
        *(b"\x03" + head[1:] + point, head[:-1] + b"\0" + point, head + bytes(len(point))),
    )
    for value in wrong:
        with made(hsm, stored(value)), pytest.raises(KeyFileError):
            token_public_key(uri, no_pin)


def test_rsa_shows_its_own(hsm: Any) -> None:
    def alone(session: Any) -> Any:
        public, private = rsa_pair("lonely")(session)
        public.destroy()
        return (private,)

    with made(hsm, alone):
        asked = []

        def ask() -> str:
            asked.append(1)
            return str(hsm.pin)

        public = token_public_key(parse_token_uri(hsm.uri("lonely")), ask)
        assert asked == [1], "the private key is not shown to everyone"
        with opened(hsm, hsm.uri("lonely")) as key:
            assert key.public == public
            assert public.verify(key.sign(DATA), DATA)


# ------------------------------------------------------------------ sessions


def test_a_login_ends_with_its_key(hsm: Any) -> None:
    key = open_token_key(parse_token_uri(hsm.uri()), lambda: hsm.pin)
    assert "in use in this process" in refused(hsm, hsm.uri("ed25519")).message
    key.sign(DATA)
    key.close()
    key.close()
    with pytest.raises(TokenError):
        key.sign(DATA)
    other = open_token_key(parse_token_uri(hsm.uri("ed25519")), lambda: hsm.pin)
    del key
    gc.collect()
    other.sign(DATA)
    del other
    gc.collect()
    with opened(hsm, hsm.uri()) as again:
        again.sign(DATA)


def test_a_refused_key_leaves_no_login(hsm: Any) -> None:
    refused(hsm, hsm.uri("none"))
    assert "PIN is wrong" in refused(hsm, hsm.uri("none"), "wrong pin").message


# ------------------------------------------------------------------ the module


def test_no_module(hsm: Any) -> None:
    with pytest.raises(UsageError, match="no PKCS#11 module is named"):
        open_token_key(parse_token_uri("pkcs11:object=a"), no_pin)
    key = open_token_key(
        parse_token_uri("pkcs11:token=release;object=ed25519"), lambda: hsm.pin, hsm.module
    )
    key.close()


def damaged(home: Path, module: str) -> dict[str, Path]:
    whole = Path(module).read_bytes()
    nothing = next(
        p for p in Path(sys.prefix).rglob("*.so") if b"C_GetFunctionList" not in p.read_bytes()
    )
    contents = {
        "empty": b"",
        "text": b"a library, honestly\n" * 100,
        "cut": whole[: len(whole) // 3],
        "other": nothing.read_bytes(),
    }
    for name, content in contents.items():
        (home / name).write_bytes(content)
    return {name: home / name for name in (*contents, "none", ".")}


def test_modules_that_are_none(hsm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in damaged(tmp_path, hsm.module).items():
        with pytest.raises(TokenError, match="the PKCS#11 module") as caught:
            load_module(str(path))
        assert caught.value.hint, name
        if name == "cut":
            assert "damaged" in caught.value.message
    monkeypatch.chdir(tmp_path)
    shutil.copy(hsm.module, "module.so")
    with pytest.raises(TokenError, match="absolute path"):
        load_module("module.so")


def test_a_module_without_its_configuration(hsm: Any, tmp_path: Path) -> None:
    """In a process of its own, for a module starts once in each."""
    code = (
        "from r1prov.trust.token_module import load_module\n"
        "from r1prov.errors import TokenError\n"
        "import sys\n"
        "try: load_module(sys.argv[1])\n"
        "except TokenError as error: print(error.message)"
    )
    (tmp_path / "conf").write_text("nonsense\n")
    done = subprocess.run(
        [sys.executable, "-c", code, hsm.module],
        env={"SOFTHSM2_CONF": str(tmp_path / "conf")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "does not start" in done.stdout


def test_the_extra_is_asked_for(hsm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(UsageError, match="extra `pkcs11`") as caught:
        load_module(hsm.module)
    assert "r1prov[pkcs11]" in str(caught.value.hint)


def test_the_private_key_stays(hsm: Any) -> None:
    """What the tests sign with is as keys on tokens are: not to be had."""
    with hsm.session() as session:
        for name in GENERATED:
            search = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: name}
            (key,) = session.get_objects(search)
            assert key[Attribute.SENSITIVE] is True
            assert key[Attribute.EXTRACTABLE] is False
