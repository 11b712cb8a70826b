"""The policy file is read strictly: a misspelt or hostile line never weakens it."""

import contextlib
import os
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import InputError, PolicyError, R1ProvError
from r1prov.verify.policy import AllowKind, Commit, Level, Scope
from r1prov.verify.policy_file import find_policy, load_policy, parse_policy
from r1prov.verify.policy_rules import NEEDS_PIN, OTHER_FILES_ONLY, why_never
from r1prov.verify.rules import RULES, Severity

HEAD = 'schema = "r1prov/policy/1"\n'
MODEL = '[[models]]\nname = "m"\n'
KEY = "a" * 64
FULL = f"""
schema = "r1prov/policy/1"
cached_digests = "refuse"
stated_digests = "refuse"
partial_manifests = "allow"

[rules]
custom-code = {{ severity = "error", reason = "no code" }}
R1P002 = {{ severity = "off", reason = "notes", expires = 2027-01-31 }}

[[models]]
name = "acme-*"
manifest = "sub/acme.toml"
manifest_sha256 = "{KEY}"
signers = ["{KEY}", "{"b" * 64}"]
threshold = 2
min_level = "full"
scope = "weights"
variant = "full"
commit_proof = "signed"

[[models.allow]]
kind = "missing"
files = "docs/**"
reason = "not deployed"
expires = 2027-01-31

[[models]]
name = "DeepSeek-R1"
manifest = "DeepSeek-R1"
"""


def parse(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return parse_policy(raw, subject="r1prov.toml", folder=Path("/p"))


def refused(text):
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert caught.value.subject == "r1prov.toml"
    return f"{caught.value.message} | {caught.value.hint}"


def test_everything_that_can_be_said():
    policy = parse(FULL)
    assert (policy.cached_digests, policy.stated_digests, policy.partial_manifests) == (
        False,
        False,
        True,
    )
    assert [(one.rule.name, one.severity, one.expires) for one in policy.rules] == [
        ("custom-code", Severity.ERROR, None),
        ("file-unlisted", None, date(2027, 1, 31)),
    ]
    acme, r1 = policy.models
    assert acme.manifest is None
    assert acme.manifest_file == Path("/p/sub/acme.toml")
    assert (acme.threshold, len(acme.signers), acme.manifest_sha256) == (2, 2, KEY)
    assert (acme.min_level, acme.scope) == (Level.FULL, Scope.WEIGHTS)
    assert (acme.variant, acme.commit) == ("full", Commit.SIGNED)
    (allowance,) = acme.allow
    assert (allowance.kind, allowance.files.text) == (AllowKind.MISSING, "docs/**")
    assert allowance.where == "models[0].allow[0]"
    assert (r1.manifest, r1.manifest_file, r1.where) == ("DeepSeek-R1", None, "models[1]")


def test_defaults_demand_and_refuse_what_holds_without_a_policy():
    policy = parse(HEAD + MODEL)
    assert (policy.cached_digests, policy.stated_digests, policy.partial_manifests) == (
        True,
        True,
        False,
    )
    (entry,) = policy.models
    assert (entry.scope, entry.min_level, entry.threshold, entry.signers) == (None, None, None, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + MODEL + 'signer = ["x"]\n', "models[0]: unknown key `signer` | did you mean `sig"),
        (HEAD + "cached_digest = 'allow'\n" + MODEL, "did you mean `cached_digests`?"),
        (HEAD + MODEL + "requre_signature = true\n", "unknown key `requre_signature`"),
        (
            HEAD + MODEL + "[[models.allow]]\nkinds = 'extra'\n",
            "models[0].allow[0]: `kind` is miss",
        ),
        (HEAD + "[rules.custom-code]\nseverity='note'\nreson='x'\n" + MODEL, "`reason` is missing"),
        (HEAD + "[rules.custom-cod]\nseverity='note'\nreason='x'\n" + MODEL, "mean `custom-code`"),
        (HEAD + "[rules.R1P999]\nseverity='note'\nreason='x'\n" + MODEL, "no rule is called"),
        (HEAD + "[rules]\ncustom-code = 'off'\n" + MODEL, "must be a table"),
        (
            HEAD
            + "[rules]\nR1P503 = {severity='error',reason='x'}\n"
            + "custom-code = {severity='note',reason='x'}\n"
            + MODEL,
            "are the same rule",
        ),
        (MODEL, "`schema` is missing"),
        ('schema = "r1prov/policy/2"\n' + MODEL, "upgrade"),
        ('schema = "r1prov/manifest/1"\n' + MODEL, "not `r1prov/policy/1`"),
        (HEAD, "allows no model"),
        (HEAD + "models = []\n", "allows no model"),
        (HEAD + "[models]\nname = 'm'\n", "array of tables"),
        (HEAD + "[[models]]\nname = 'a b'\n", "not of the form"),
        (HEAD + "[[models]]\nname = '[ab]'\n", "not of the form"),
        (HEAD + "[[models]]\nname = ''\n", "is empty"),
        (HEAD + MODEL + "threshold = 0\n", "not from 1"),
        (HEAD + MODEL + "threshold = true\n", "an integer"),
        (HEAD + MODEL + "threshold = 1.0\n", "an integer"),
        (HEAD + MODEL + f"threshold = 2\nsigners = ['{KEY}']\n", "can never be met"),
        (HEAD + MODEL + f"signers = ['{KEY}', '{KEY}']\n", "the same twice"),
        (HEAD + MODEL + f"signers = ['{KEY[:8]}']\n", "not of the form"),
        (HEAD + MODEL + f"signers = '{KEY}'\n", "array of strings"),
        (HEAD + MODEL + "signers = []\n", "`signers` is empty"),
        (HEAD + MODEL + f"manifest_sha256 = '{KEY.upper()}'\n", "not of the form"),
        (HEAD + MODEL + "manifest = 'a/b'\n", "not of the form"),
        (HEAD + MODEL + "min_level = 'none'\n", "not one of: structure, full"),
        (HEAD + MODEL + "variant = 'huge'\n", "not one of"),
        (HEAD + MODEL + "commit_proof = true\n", "must be a string"),
        (HEAD + "cached_digests = true\n" + MODEL, "must be a string"),
        (HEAD + 'rules = "off"\n' + MODEL, "must be a table"),
    ],
)
def test_refused(text, said):
    assert said in refused(text)


ALLOW = "[[models.allow]]\nkind = 'extra'\nfiles = '{}'\nreason = '{}'\nexpires = {}\n"


@pytest.mark.parametrize(
    ("files", "reason", "expires", "said"),
    [
        ("../x", "r", "2027-01-01", "`files`"),
        ("/x", "r", "2027-01-01", "is absolute"),
        ("**", "r", "2027-01-01", "`**`"),
        ("x", "", "2027-01-01", "`reason` is empty"),
        ("x", "  ", "2027-01-01", "`reason` is `  `"),
        ("x", "r", "2027-01-01T00:00:00Z", "a date such as"),
        ("x", "r", "2027-02-30", "line 8"),
        ("x", "r", "'2027-01-01'", "a date such as"),
        ("x", "r", "20270101", "a date such as"),
    ],
)
def test_allowances_refused(files, reason, expires, said):
    assert said in refused(HEAD + MODEL + ALLOW.format(files, reason, expires))


def test_an_allowance_needs_an_end():
    text = HEAD + MODEL + ALLOW.format("x", "r", "2027-01-01")
    assert "an exception has an end" in refused(text.replace("expires = 2027-01-01\n", ""))


# --- rules that keep their weight ----------------------------------------------------------------


def turned(name, word, top="", expires=""):
    body = f'[rules.{name}]\nseverity = "{word}"\nreason = "r"\n{expires}'
    return HEAD + top + body + MODEL


NEVER = [rule for rule in RULES if why_never(rule)]


@pytest.mark.parametrize("rule", NEVER, ids=lambda rule: rule.name)
def test_what_no_policy_turns_down(rule):
    for key in (rule.name, rule.id):
        assert "can never be turned down: " in refused(turned(key, "off"))
    # It may be turned up, or stay.
    parse(turned(rule.name, "error"))


def test_the_rules_that_carry_a_verdict_are_among_them():
    names = {rule.name for rule in NEVER}
    assert {
        *("signature-invalid", "signer-revoked", "commit-proof", "shadowing-file", "symlink"),
        *("inventory-mismatch", "config-mismatch", "header-duplicate-key", "tensor-overlap"),
        *("signed-path-ignored", "oms-root", "certificate-untrusted"),
        *("file-changed", "listing-changed", "policy-model", "policy-signers"),
    } <= names
    assert not names & {"custom-code", "executable-file", "name-claim", "header-padding"}


def test_every_rule_that_is_named_exists():
    names = {rule.name for rule in RULES}
    assert names >= OTHER_FILES_ONLY
    assert names >= NEEDS_PIN
    from r1prov.verify import policy_rules

    assert set(policy_rules._NEVER) | set(policy_rules._BUT) <= names


@pytest.mark.parametrize("name", sorted(NEEDS_PIN))
def test_signatures_need_a_pin(name):
    assert "pins its manifest" in refused(turned(name, "warning"))
    parse(turned(name, "warning") + f"manifest_sha256 = '{KEY}'\n")
    # Every entry must: another model would go without either.
    both = turned(name, "warning") + f"manifest_sha256 = '{KEY}'\n[[models]]\nname = 'n'\n"
    assert "models[1] has no" in refused(both)


def test_a_rule_turned_up_has_no_end():
    assert "turned up" in refused(turned("custom-code", "error", expires="expires = 2027-01-01\n"))
    parse(turned("name-claim", "warning", expires="expires = 2027-01-01\n"))


# --- hostile bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00s",
        b"\xef\xbb\xbf" + HEAD.encode(),
        b'{"schema": "r1prov/policy/1"}',
        b"PK\x03\x04",
        b"<html>",
        b"schema = '\xff'",
        HEAD.encode() * 2,
        HEAD.encode() + b"x = " + b"[" * 5000,
        HEAD.encode() + b"x = " + b"{a=" * 5000,
        HEAD.encode() + b"x" + b".x" * 20000 + b" = 1",
        HEAD.encode() + b"x = " + b"9" * 5000,
        HEAD.encode() + b"x = 0000-99-99",
        HEAD.encode() + b"x = nan",
        HEAD.encode() + b"\x00",
        (HEAD + MODEL + "reason = '\x1b[31m'").encode(),
        (HEAD + '[[models]]\nname = "m\\u202e"\n').encode(),
        (HEAD + MODEL + ALLOW.format("x", "\u202e evil", "2027-01-01")).encode(),
        b"#" * (1024 * 1024 + 1),
        (HEAD + MODEL * 1001).encode(),
        (HEAD + MODEL + ALLOW.format("x", "r", "2027-01-01") * 257).encode(),
    ],
    ids=range(21),
)
def test_hostile_bytes_are_refused_quickly(raw):
    started = time.perf_counter()
    with pytest.raises(PolicyError):
        parse(raw)
    assert time.perf_counter() - started < 2


@given(st.binary(max_size=300))
def test_no_other_exception_leaves_the_parser(raw):
    for data in (raw, HEAD.encode() + raw, (HEAD + MODEL).encode() + raw):
        with contextlib.suppress(PolicyError):
            parse(data)


@given(st.integers(0, len(FULL.encode()) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at, byte):
    raw = bytearray(FULL.encode())
    raw[at] = byte
    with contextlib.suppress(PolicyError):
        parse(bytes(raw))


# --- where it is looked for ----------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1PROV_POLICY", raising=False)

    def write(path, name, table=""):
        text = HEAD + f'models = [{{ name = "{name}" }}]\n'
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"{table}{text}")
        return Path(path)

    return write


def taken(*arguments, **options):
    found = find_policy(*arguments, **options).file
    return found.models[0].name if found else None


def test_the_order_of_places(here, monkeypatch):
    assert taken() is None
    here("pyproject.toml", "pyproject", "[tool.r1prov]\n")
    assert taken() == "pyproject"
    here("r1prov.toml", "file")
    assert taken() == "file"
    monkeypatch.setenv("R1PROV_POLICY", "")
    assert taken() == "file"
    monkeypatch.setenv("R1PROV_POLICY", str(here("a/variable.toml", "variable")))
    assert taken() == "variable"
    assert taken(here("b/named.toml", "named")) == "named"


def test_a_pyproject_without_the_table_is_no_policy(here):
    Path("pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert taken() is None
    with pytest.raises(PolicyError, match="no table"):
        load_policy(Path("pyproject.toml"))


@pytest.mark.parametrize("text", ["[tool.r1prov", "tool = 3", "[tool]\nr1prov = 3"])
def test_a_broken_pyproject_is_not_passed_over(here, text):
    Path("pyproject.toml").write_text(text)
    if text == "tool = 3":
        assert taken() is None
        return
    with pytest.raises(PolicyError):
        find_policy()


def test_a_pyproject_says_where_the_fault_is(here):
    here("pyproject.toml", "x", "[tool.r1prov]\nsurprise = 1\n")
    with pytest.raises(PolicyError) as caught:
        find_policy()
    assert caught.value.subject == "pyproject.toml [tool.r1prov]"


@pytest.mark.parametrize("name", ["r1prov.toml", "pyproject.toml"])
def test_what_cannot_be_read_is_not_passed_over(here, name):
    Path(name).mkdir()
    with pytest.raises(R1ProvError):
        find_policy()
    Path(name).rmdir()
    Path(name).symlink_to("gone")
    with pytest.raises(R1ProvError):
        find_policy()
    Path(name).unlink()
    os.mkfifo(name)
    if name == "r1prov.toml":
        with pytest.raises(InputError):
            find_policy()
    else:
        assert taken() is None


def test_a_policy_beside_the_model_counts(here):
    here("r1prov.toml", "beside")
    Path("model").mkdir()
    assert taken(model=Path("model")) == "beside"
    assert taken(model=Path("model/one.safetensors")) == "beside"
    assert taken(model=Path("model\0")) in (None, "beside")


def test_a_policy_inside_the_model_does_not_hide_the_one_after_it(here, tmp_path):
    here("r1prov.toml", "evil")
    found = find_policy(model=tmp_path)
    assert (found.file, found.ignored) == (None, str(tmp_path / "r1prov.toml"))
