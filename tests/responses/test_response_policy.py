"""The table `[responses]`: strict, and the same to its JSON Schema."""

import json
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from signed import KEYID, signing_key

from r1prov.errors import NotFound, PolicyError
from r1prov.responses.policy import (
    COVER,
    Promise,
    ResponsePolicy,
    find_response_policy,
    load_response_policy,
    parse_response_policy,
)
from r1prov.verify.policy_file import parse_policy

SCHEMA = json.loads((files("r1prov.verify") / "schema" / "policy-1.json").read_bytes())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
HEAD = 'schema = "r1prov/policy/1"\n'
PIN = signing_key().public.thumbprint


@pytest.fixture
def folder(tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = signing_key()._material.public_key()
    (tmp_path / "api.pem").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return tmp_path


def parse(text, folder=None):
    return parse_response_policy((HEAD + text).encode(), subject="p", folder=folder)


def test_a_whole_policy(folder, monkeypatch):
    monkeypatch.setenv("HOOK", "whsec_" + "A" * 32)
    policy = parse(
        f"""
[responses]
schemes = ["http-signature", "near"]
tag = "r1"
cover = ["content-digest", "@status"]
cover_jws = ["content-digest"]
cover_receipt = ["content-digest"]
max_age = 60
skew = 5
nonce = "require"
reserialized = "allow"
jws_field = "X-Sig"
manifest = "sha256:{"a" * 64}"
weights = "verified"
pins = ["{PIN}", "0xCaAA4842758658A85785Ad15367a700C601ffEA5"]

[responses.aliases]
"deepseek-r1:671b" = "deepseek-ai/DeepSeek-R1"

[[responses.keys]]
file = "api.pem"
name = "{KEYID}"
algorithm = "ed25519"
owner = "Example"
origins = ["https://api.example.com", "https://*.example.org"]
models = ["deepseek-*"]
valid_from = 2026-01-01T00:00:00Z
valid_until = 2027-01-01T00:00:00+01:00
revoked_at = 2026-06-01T00:00:00Z
revoked_reason = "lost"

[[responses.keys]]
address = "0xCaAA4842758658A85785Ad15367a700C601ffEA5"

[[responses.keys]]
secret_env = "HOOK"

[[responses.promised]]
origin = "https://API.example.com:443"
scheme = "http-signature"
""",
        folder,
    )
    assert policy.schemes == ("http-signature", "near")
    assert (policy.tag, policy.nonce, policy.reserialized) == ("r1", "require", True)
    assert [str(one) for one in policy.cover] == ["content-digest", "@status"]
    assert (policy.max_age, policy.skew) == (timedelta(seconds=60), timedelta(seconds=5))
    assert policy.jws_field == "x-sig"
    assert (policy.manifest_sha256, policy.verified_weights) == ("a" * 64, True)
    assert policy.pins == {PIN, "0xcaaa4842758658a85785ad15367a700c601ffea5"}
    assert policy.aliases == {"deepseek-r1:671b": "deepseek-ai/DeepSeek-R1"}
    assert policy.promised == (Promise("https://api.example.com", "http-signature"),)
    assert policy.promises("https://api.example.com") == {"http-signature"}
    key, address, secret = policy.keys
    assert (key.thumbprint, key.owner) == (PIN, "Example")
    assert KEYID in key.names
    assert key.valid_until == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert (key.revoked_at, key.revoked_reason) == (datetime(2026, 6, 1, tzinfo=UTC), "lost")
    assert address.algorithm == "secp256k1-eip191"
    assert (secret.is_secret, secret.names) == (True, {"HOOK"})


def test_the_default_is_the_profile():
    assert parse("[responses]") == ResponsePolicy(location="p")
    assert [str(one) for one in ResponsePolicy().cover] == list(COVER)
    assert ResponsePolicy().max_age == timedelta(seconds=300)


WRONG = {
    "unknown key": ("[responses]\nnonsense = 1", "unknown key"),
    "unknown scheme": ('[responses]\nschemes = ["x"]', "`schemes` names"),
    "unknown component": ('[responses]\ncover = ["@x"]', "no component"),
    "the body left open": ('[responses]\ncover = ["@status"]', "lacks content-digest"),
    "the request's digest is not the body": (
        '[responses]\ncover_jws = ["content-digest;req"]',
        "lacks content-digest",
    ),
    "nonce": ('[responses]\nnonce = "x"', "not one of"),
    "reserialized": ("[responses]\nreserialized = true", "must be a string"),
    "age as text": ('[responses]\nmax_age = "1"', "must be an integer"),
    "age as a float": ("[responses]\nmax_age = 1.5", "must be an integer"),
    "negative age": ("[responses]\nmax_age = -1", "outside"),
    "an age of centuries": ("[responses]\nmax_age = 9999999999", "ten years"),
    "pin": ('[responses]\npins = ["x"]', "not of the form"),
    "field": ('[responses]\njws_field = "a b"', "not of the form"),
    "empty tag": ('[responses]\ntag = ""', "empty"),
    "no schemes": ("[responses]\nschemes = []", "`schemes` is empty"),
    "nothing to cover": ("[responses]\ncover = []", "`cover` is empty"),
    "no origins": ("[[responses.keys]]\nfile='api.pem'\norigins=[]", "`origins` is empty"),
    "no models": ("[[responses.keys]]\nfile='api.pem'\nmodels=[]", "`models` is empty"),
    "no table": ("responses = 1", "must be a table"),
    "nothing": ("", "no table"),
    "no material": ("[[responses.keys]]\nname = 'a'", "only one of them"),
    "two": ("[[responses.keys]]\nfile='api.pem'\naddress='0x'", "only one of them"),
    "address": ("[[responses.keys]]\naddress = '0x1'", "no address"),
    "algorithm": ("[[responses.keys]]\nfile='api.pem'\nalgorithm='hmac-sha256'", "`algorithm` is"),
    "another algorithm": (
        "[[responses.keys]]\nfile='api.pem'\nalgorithm='rsa-pss-sha512'",
        "is for ed25519",
    ),
    "variable": ("[[responses.keys]]\nsecret_env='R1PROV_NOT_SET'", "is not set"),
    "origin": (
        "[[responses.keys]]\nfile='api.pem'\norigins=['api.example.com']",
        "not of the form",
    ),
    "model class": ("[[responses.keys]]\nfile='api.pem'\nmodels=['[a-z]']", "not of the form"),
    "a day": ("[[responses.keys]]\nfile='api.pem'\nvalid_from=2026-01-01", "a time with an offset"),
    "a local time": (
        "[[responses.keys]]\nfile='api.pem'\nvalid_from=2026-01-01T00:00:00",
        "a time with an offset",
    ),
    "ends first": (
        "[[responses.keys]]\nfile='api.pem'\nvalid_from=2026-01-02T00:00:00Z\n"
        "valid_until=2026-01-01T00:00:00Z",
        "not after",
    ),
    "promise": ("[[responses.promised]]\norigin='https://a'", "`scheme` is missing"),
    "promise of a path": (
        "[[responses.promised]]\norigin='https://a/b'\nscheme='near'",
        "not of the form",
    ),
    "aliases": ("[responses.aliases]\na = 1", "must be a string"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name, folder):
    text, says = WRONG[name]
    with pytest.raises(PolicyError, match=says) as caught:
        parse(text, folder)
    assert caught.value.subject == "p" or "api.pem" in (caught.value.subject or "")


def test_files_that_are_missing_or_malformed(tmp_path):
    with pytest.raises(NotFound):
        parse("[[responses.keys]]\nfile='absent.pem'", tmp_path)
    (tmp_path / "k.pem").write_text("x")
    with pytest.raises(PolicyError, match=r"k\.pem"):
        parse("[[responses.keys]]\nfile='k.pem'", tmp_path)
    (tmp_path / "x.toml").write_text("schema = 'r1prov/policy/2'\n[responses]\n")
    with pytest.raises(PolicyError, match="policy/2") as caught:
        load_response_policy(tmp_path / "x.toml")
    assert "newer" in (caught.value.hint or "")
    (tmp_path / "x.toml").write_text("[[[")
    with pytest.raises(PolicyError):
        load_response_policy(tmp_path / "x.toml")
    with pytest.raises(NotFound):
        load_response_policy(tmp_path / "y.toml")


def test_where_a_policy_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_response_policy() == ResponsePolicy()
    (tmp_path / "pyproject.toml").write_text(
        "[tool.r1prov]\nschema = 'r1prov/policy/1'\n[tool.r1prov.responses]\nskew = 7\n"
    )
    assert find_response_policy().skew == timedelta(seconds=7)
    # A policy of models alone says nothing of responses.
    models = tmp_path / "r1prov.toml"
    models.write_text(HEAD + '[[models]]\nname = "*"\n')
    assert find_response_policy().skew == timedelta(seconds=7)
    models.write_text(HEAD + "[responses]\nskew = 8\n")
    assert find_response_policy().skew == timedelta(seconds=8)
    models.write_text(HEAD + '[[models]]\nname = "*"\n')
    with pytest.raises(PolicyError, match="no table"):
        find_response_policy(models)


def test_the_policy_of_models_lets_the_table_be():
    text = HEAD + '[responses]\nskew = 8\n[[models]]\nname = "*"\n'
    assert parse_policy(text.encode(), subject="p").models[0].name == "*"
    only = parse_policy((HEAD + "[responses]\n").encode(), subject="p")
    assert only.models == ()
    assert only.entry_for("m") is None
    with pytest.raises(PolicyError, match="allows no model"):
        parse_policy(HEAD.encode(), subject="p")


# ---- the schema ---------------------------------------------------------------------------------

# What only the parser refuses: the schema's `$comment` says it.
BEYOND = (
    "no component",
    "parameter",
    "lacks content-digest",
    "only one of them",
    "not after",
    "is not set",
    "is for ed25519",
    "a time with an offset",
    "must be a string, not `datetime.",
    "no host",
    "unprintable",
)


def as_json(value):
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def agree(text, folder):
    """The schema accepts what the parser accepts, and refuses the rest but for `BEYOND`."""
    try:
        parse(text, folder)
        message = None
    except PolicyError as error:
        message = error.message
    values = as_json(tomli.loads(HEAD + text))
    errors = [one.message for one in VALIDATOR.iter_errors(values)]
    if message is None:
        assert errors == []
    elif not errors:
        assert any(one in message for one in BEYOND), message


@pytest.mark.parametrize("name", [name for name in WRONG if name != "nothing"])
def test_the_schema_refuses_what_the_parser_refuses(name, folder):
    agree(WRONG[name][0], folder)


VALUES = st.sampled_from(
    [
        '"a"',
        '""',
        "1",
        "0",
        "-1",
        "1.5",
        "true",
        "[]",
        '["near"]',
        '["content-digest"]',
        '"allow"',
        '"echo"',
        f'["{PIN}"]',
        '"api.pem"',
        '["*"]',
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "{}",
        '{ a = "b" }',
        '"ed25519"',
        '"https://a.example"',
        '["https://a.example"]',
        '"near"',
        f'"sha256:{"b" * 64}"',
        '"verified"',
    ]
)
TOP = ["schemes", "tag", "cover", "max_age", "skew", "nonce", "reserialized", "jws_field", "pins"]
TOP += ["manifest", "weights"]
KEY = ["file", "name", "algorithm", "owner", "origins", "models", "valid_from", "revoked_reason"]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*TOP, "aliases", "x"]), VALUES, max_size=3),
    st.dictionaries(st.sampled_from([*KEY, "x"]), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["origin", "scheme", "x"]), VALUES, max_size=2),
)
def test_schema_and_parser_agree(top, key, promise):
    import tempfile
    from pathlib import Path

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    lines = ["[responses]", *(f"{k} = {v}" for k, v in top.items())]
    for name, table in (("keys", key), ("promised", promise)):
        if table:
            lines += [f"[[responses.{name}]]", *(f"{k} = {v}" for k, v in table.items())]
    with tempfile.TemporaryDirectory() as name:
        public = signing_key()._material.public_key()
        (Path(name) / "api.pem").write_bytes(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (Path(name) / "a").write_bytes((Path(name) / "api.pem").read_bytes())
        try:
            agree("\n".join(lines), Path(name))
        except NotFound:
            return
