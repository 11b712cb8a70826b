"""A policy over real weights: what it demands, what it lets through, and what it never does."""

import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.verify.findings import Part

TODAY = datetime.now(UTC).date()
RELEASE_KEY = "e4639098ff98c999d4e8804172494d0aa70114ecb6fcbf3685550cb0a5d1c08f"
NAME = "all-MiniLM-L6-v2"
CONFIGS = Path(__file__).parents[2] / "manifests" / "facts" / "configs"


def day(days):
    return (TODAY + timedelta(days=days)).isoformat()


def allow(kind, files, days=30, reason="vendor text"):
    return (
        f'[[models.allow]]\nkind = "{kind}"\nfiles = "{files}"\nreason = "{reason}"\n'
        f"expires = {day(days)}\n"
    )


def rule(name, severity, days=None, reason="agreed"):
    until = "" if days is None else f"expires = {day(days)}\n"
    return f'[rules.{name}]\nseverity = "{severity}"\nreason = "{reason}"\n{until}'


@pytest.fixture
def policy(tmp_path):
    """Write a policy outside the model: top-level lines, then one entry and what follows it."""

    def write(entry="", *, top="", name=NAME, after=""):
        path = tmp_path / "policy" / "r1prov.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'schema = "r1prov/policy/1"\n{top}\n[[models]]\nname = "{name}"\n{entry}\n{after}'
        )
        return path

    return write


@pytest.fixture
def judge(verify, minilm_copy):
    def call(path, *arguments):
        return verify(minilm_copy, "--policy", path, *arguments)

    return call


def errors(report):
    return {(f["name"], f["subject"]) for f in report["findings"] if f["severity"] == "error"}


def finding(report, name):
    (found,) = [one for one in report["findings"] if one["name"] == name]
    return found


def row(report, item):
    return [one for one in report["coverage"] if one["item"] == item]


def test_without_a_policy_nothing_changes(verify, minilm):
    status, report = verify(minilm)
    assert status == 0
    assert row(report, "policy") == []


def test_a_policy_that_is_met_passes_and_is_named(judge, policy):
    path = policy(
        f'manifest = "{NAME}"\nsigners = ["{RELEASE_KEY}"]\nthreshold = 1\nvariant = "other"\n'
        'min_level = "full"\nscope = "all"'
    )
    status, report = judge(path)
    assert status == 0
    (one,) = row(report, "policy")
    assert str(path) in one["detail"]
    assert f"models[0] {NAME}" in one["detail"]
    assert one["required"] is False


# --- extra and missing files ---------------------------------------------------------------------


def test_an_extra_file_that_is_allowed_is_shown_and_passes(judge, policy, minilm_copy):
    (minilm_copy / "NOTES.md").write_text("hello")
    assert judge(policy())[0] == 1
    status, report = judge(policy(allow("extra", "*.md", reason="our notes")))
    assert status == 0
    one = finding(report, "file-unlisted")
    assert one["severity"] == "note"
    assert one["message"].endswith(f"; let through by policy: our notes, until {day(30)}")
    assert row(report, "policy")[0]["detail"].endswith("; 1 finding let through")
    # The first line says so, and the tree is not the one whose digest the manifest gives.
    assert report["headline"].endswith(", 1 exception by policy")
    assert report["manifest"]["tree_digest"] is None


def test_an_allowance_counts_through_its_last_day_and_not_after(judge, policy, minilm_copy):
    (minilm_copy / "NOTES.md").write_text("hello")
    # The last day of the run may begin a moment after this test did.
    assert judge(policy(allow("extra", "NOTES.md", days=1)))[0] == 0
    status, report = judge(policy(allow("extra", "NOTES.md", days=-1)))
    assert status == 1
    assert errors(report) == {("file-unlisted", "NOTES.md")}
    one = finding(report, "policy-expired")
    assert one["subject"] == "models[0].allow[0] NOTES.md"
    assert one["severity"] == "warning"
    assert day(-1) in one["message"]


def test_a_pattern_does_not_let_weights_or_code_in(judge, policy, minilm_copy):
    (minilm_copy / "sub").mkdir()
    shutil.copy(minilm_copy / "model.safetensors", minilm_copy / "sub" / "extra.safetensors")
    (minilm_copy / "sub" / "run.py").write_text("print()")
    status, report = judge(policy(allow("extra", "sub/**")))
    assert status == 1
    assert ("file-unlisted", "sub/extra.safetensors") in errors(report)
    assert ("file-unlisted", "sub/run.py") in errors(report)
    exact = allow("extra", "sub/extra.safetensors") + allow("extra", "sub/run.py")
    status, report = judge(policy(exact))
    # Named exactly they may lie there, and code that nobody lists is still code.
    assert errors(report) == {("code-unlisted", "sub/run.py")}
    assert judge(policy(exact, top="", after=rule("code-unlisted", "warning")))[0] == 0


def test_a_pattern_does_not_let_in_what_loaders_find_by_name(judge, policy, minilm_copy):
    """A prompt template of somebody else's answers in the model's name."""
    new = {"chat_template.jinja": "{{ x }}", "generation_config.json": "{}", "sub/vocab.txt": "a"}
    (minilm_copy / "sub").mkdir()
    for name, text in new.items():
        (minilm_copy / name).write_text(text)
    (minilm_copy / "sub" / "results.json").write_text("{}")
    status, report = judge(policy(allow("extra", "*") + allow("extra", "sub/**")))
    assert status == 1
    assert errors(report) == {("file-unlisted", name) for name in new}
    assert judge(policy(allow("extra", "sub/results.json", days=-1)))[0] == 1
    named = "".join(allow("extra", name) for name in (*new, "sub/*.json"))
    assert judge(policy(named))[0] == 0
    # What is missing cannot be loaded.
    for name in new:
        (minilm_copy / name).unlink()
    (minilm_copy / "tokenizer_config.json").unlink()
    allowed = allow("extra", "sub/*.json") + allow("missing", "tokenizer*.json")
    assert judge(policy(allowed))[0] == 0


def test_a_file_that_loaders_prefer_is_never_let_through(judge, policy, minilm_copy):
    (minilm_copy / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    status, report = judge(
        policy(allow("extra", "pytorch_model.bin"), after=rule("executable-file", "note"))
    )
    assert status == 1
    assert errors(report) == {("shadowing-file", "pytorch_model.bin")}


def test_a_missing_small_file_that_is_allowed_passes(judge, policy, minilm_copy):
    (minilm_copy / "train_script.py").unlink(missing_ok=True)
    (minilm_copy / "README.md").unlink()
    (minilm_copy / "data_config.json").unlink()
    missing = allow("missing", "README.md") + allow("missing", "data_*.json")
    status, report = judge(policy(missing + allow("missing", "train_script.py")))
    assert status == 0
    (one,) = row(report, "SHA-256 of other files")
    assert (one["state"], one["required"]) == ("skipped", False)
    assert "let through by policy: README.md, data_config.json" in one["detail"]
    # One of them not allowed: the finding stays, and so does the requirement.
    status, report = judge(policy(allow("missing", "README.md")))
    assert status == 1
    assert ("file-missing", "data_config.json") in errors(report)
    assert row(report, "SHA-256 of other files")[0]["required"] is True


def test_an_allowance_is_of_its_kind(judge, policy, minilm_copy):
    (minilm_copy / "README.md").unlink()
    (minilm_copy / "NOTES.md").write_text("hello")
    status, report = judge(policy(allow("extra", "README.md") + allow("missing", "NOTES.md")))
    assert status == 1
    assert errors(report) == {("file-missing", "README.md"), ("file-unlisted", "NOTES.md")}
    detail = row(report, "policy")[0]["detail"]
    assert "no use for the allowance of README.md, NOTES.md" in detail


def test_missing_weights_must_be_named_and_leave_the_inventory_open(judge, policy, minilm_copy):
    (minilm_copy / "model.safetensors").unlink()
    assert judge(policy(allow("missing", "*.safetensors")))[0] == 1
    status, report = judge(policy(allow("missing", "model.safetensors")))
    assert status == 1
    assert {name for name, _ in errors(report)} == {"no-weights"}


def test_a_shard_that_may_be_missing_is_no_pass(verify, rules, case, policy):
    gone = sorted(path.name for path in case.model.glob("*.safetensors"))[-1]
    (case.model / gone).unlink()
    path = policy(allow("missing", gone), name="m")
    status, report = verify(
        case.model, "--manifest", case.name, "--keys", case.keys, "--policy", path
    )
    assert status != 0
    assert "file-missing" not in rules(report)


# --- demands -------------------------------------------------------------------------------------


def test_a_model_that_no_entry_names_fails(judge, policy):
    status, report = judge(policy(name="DeepSeek-R1"))
    assert status == 1
    assert errors(report) == {("policy-model", NAME)}
    assert finding(report, "policy-model")["expected"] == "DeepSeek-R1"


def test_upper_and_lower_case_differ(judge, policy):
    assert judge(policy(name="all-minilm-*"))[0] == 1
    assert judge(policy(name="all-MiniLM-??-v2"))[0] == 0


def test_a_model_that_no_manifest_fits_fails_instead_of_incomplete(verify, tiny, policy):
    assert verify(tiny)[0] == 3
    status, report = verify(tiny, "--policy", policy(name="*"))
    assert status == 1
    assert "policy-model" in {name for name, _ in errors(report)}


def test_two_entries_that_fit_are_an_error_before_anything_is_hashed(judge, policy, monkeypatch):
    def never(*_, **__):
        raise AssertionError("hashed")

    monkeypatch.setattr("r1prov.verify.run.hash_model", never)
    path = policy(name="all-*", after='[[models]]\nname = "*-v2"\n')
    status, report = judge(path)
    assert status == 4
    assert "models[0] `all-*` and models[1] `*-v2` both match" in report["error"]
    assert "exactly one entry" in report["error"]


def test_each_model_falls_under_its_own_entry(judge, policy):
    path = policy('variant = "full"', name="DeepSeek-*", after=f'[[models]]\nname = "{NAME}"\n')
    status, report = judge(path)
    assert status == 0
    assert f"models[1] {NAME}" in row(report, "policy")[0]["detail"]


def test_the_manifest_file_that_a_policy_names_is_found(verify, case, policy):
    assert verify(case.model, "--keys", case.keys)[0] == 3
    path = policy('manifest = "../m.toml"', name="m")
    status, report = verify(case.model, "--policy", path, "--keys", case.keys)
    assert (status, report["manifest"]["name"]) == (0, "m")
    # It is looked for beside the policy, wherever the command runs.
    status, report = verify(case.model, "--policy", policy('manifest = "m.toml"', name="m"))
    assert status == 4
    assert "policy/m.toml" in report["error"]


def test_another_file_of_the_same_name_is_not_the_named_manifest(verify, case, policy, tmp_path):
    path = policy('manifest = "../m.toml"', name="m")
    other = tmp_path / "other"
    other.mkdir()
    for one in tmp_path.glob("m.toml*"):
        shutil.copy(one, other)
    keys = ["--keys", case.keys, "--policy", path]
    status, report = verify(case.model, "--manifest", other / "m.toml", *keys)
    assert (status, errors(report)) == (1, {("policy-manifest", "m.toml")})


def test_the_pin_is_of_the_manifest_file(judge, policy):
    _, report = judge(policy())
    pin = report["manifest"]["sha256"]
    assert judge(policy(f'manifest_sha256 = "{pin}"'))[0] == 0
    status, report = judge(policy(f'manifest_sha256 = "{"0" * 64}"'))
    assert status == 1
    one = finding(report, "policy-manifest")
    assert (one["expected"], one["found"]) == (f"sha256:{'0' * 64}", f"sha256:{pin}")


def test_a_manifest_of_another_name_fails(judge, policy):
    status, report = judge(policy('manifest = "DeepSeek-R1"'))
    assert (status, errors(report)) == (1, {("policy-manifest", f"{NAME}.toml")})


def test_a_signer_whom_the_policy_does_not_name_does_not_count(judge, policy):
    status, report = judge(policy(f'signers = ["{"a" * 64}"]'))
    assert (status, errors(report)) == (1, {("policy-signers", f"{NAME}.toml")})
    assert finding(report, "policy-signers")["found"] == RELEASE_KEY[:8]


def test_a_threshold_is_met_by_different_keys_of_the_list(verify, case, policy, tmp_path):
    how = ["--manifest", case.name, "--keys", case.keys, "--policy"]
    (first,) = re.findall(r'^id = "(.*)"$', (case.keys / "trust.toml").read_text(), re.M)
    assert run(["key", "generate", "k2.pem", "--no-passphrase", "--algorithm", "ed25519"]) == 0
    assert run(["key", "add", "k2.pem.pub", "--owner", "b", "--model", "*", "--keys", "keys"]) == 0
    ids = re.findall(r'^id = "(.*)"$', (case.keys / "trust.toml").read_text(), re.M)
    (second,) = set(ids) - {first}
    both = policy(f'signers = ["{first}", "{second}"]\nthreshold = 2', name="m")
    status, report = verify(case.model, *how, both)
    assert (status, errors(report)) == (1, {("policy-signers", "m.toml")})
    # The same key under another bundle name does not count twice.
    (bundle,) = tmp_path.glob("m.toml.*")
    shutil.copy(bundle, tmp_path / "m.toml.again.sigstore.json")
    assert verify(case.model, *how, both)[0] == 1
    assert run(["manifest", "sign", "m.toml", "--key", "k2.pem"]) == 0
    assert verify(case.model, *how, both)[0] == 0
    # Without signers, a threshold is of all trusted keys.
    assert verify(case.model, *how, policy("threshold = 2", name="m"))[0] == 0
    assert verify(case.model, *how, policy("threshold = 3", name="m"))[0] == 1
    # A revoked key counts for nothing, whatever the policy says.
    assert run(["key", "revoke", second, "--reason", "lost", "--keys", "keys"]) == 0
    status, report = verify(case.model, *how, both)
    assert (status, errors(report)) == (1, {("policy-signers", "m.toml")})
    assert finding(report, "policy-signers")["found"] == first[:8]


def test_level_and_scope_below_the_demands_fail(judge, policy):
    path = policy('min_level = "full"\nscope = "all"')
    status, report = judge(path, "--level", "structure", "--scope", "weights")
    assert (status, errors(report)) == (1, {("policy-level", "level"), ("policy-level", "scope")})
    # Level structure is no pass, whatever a policy says.
    assert judge(policy('min_level = "structure"'), "--level", "structure")[0] == 3


def test_scope_weights_of_a_policy_counts_unless_the_command_line_says_all(
    judge, policy, minilm_copy
):
    (minilm_copy / "README.md").write_text("another")
    path = policy('scope = "weights"')
    status, report = judge(path)
    assert (status, report["scope"]) == (0, "weights")
    assert report["headline"].endswith("weights only")
    status, report = judge(path, "--scope", "all")
    assert (status, report["scope"]) == (1, "all")


def test_variant(judge, policy):
    status, report = judge(policy('variant = "full"'))
    assert (status, errors(report)) == (1, {("policy-variant", NAME)})
    assert finding(report, "policy-variant")["found"] == "other"
    status, report = judge(policy('variant = "distill"'))
    assert (status, errors(report)) == (1, {("policy-variant", NAME)})


def test_full_is_more_than_a_word_in_a_manifest(verify, case, policy):
    from dataclasses import replace

    case.restate(lambda manifest: replace(manifest, variant="full"))
    path = policy('variant = "full"', name="m")
    how = ["--manifest", case.name, "--keys", case.keys]
    assert verify(case.model, *how)[0] == 0
    status, report = verify(case.model, *how, "--policy", path)
    assert (status, errors(report)) == (1, {("policy-variant", "m")})
    assert "other tensors than DeepSeek-R1" in finding(report, "policy-variant")["found"]


@pytest.mark.parametrize("wanted", ["holds", "signed"])
def test_a_commit_proof_that_is_not_there_fails(judge, policy, wanted):
    status, report = judge(policy(f'commit_proof = "{wanted}"'))
    assert (status, errors(report)) == (1, {("policy-commit", NAME)})


@pytest.mark.parametrize("wanted", ["holds", "signed"])
def test_a_commit_that_the_hub_signed_meets_either(verify, write_model, tmp_path, policy, wanted):
    name = "DeepSeek-R1-Distill-Qwen-32B"
    model = write_model(tmp_path / "d", (CONFIGS / f"{name}.json").read_bytes())
    path = policy(f'commit_proof = "{wanted}"', name=name)
    _, report = verify(model, "--policy", path, "--level", "structure")
    assert "signed by the Hub's key" in report["provenance"][0]
    assert "policy-commit" not in {name for name, _ in errors(report)}


def test_a_commit_that_nobody_signed_is_not_signed(policy):
    from dataclasses import replace

    from r1prov.manifest.shelf import load_shelf
    from r1prov.trust.directories import load_hub_key
    from r1prov.verify.apply_policy import check_demands
    from r1prov.verify.checks.provenance import check_commit
    from r1prov.verify.policy import Policy
    from r1prov.verify.policy_file import load_policy

    shelved = load_shelf().find("DeepSeek-R1")
    assert shelved is not None
    _, _, proof, _ = check_commit(shelved.manifest, load_hub_key())
    assert proof is not None
    unsigned = replace(proof, signed=False)

    def demanded(wanted):
        file = load_policy(policy(f'commit_proof = "{wanted}"', name="DeepSeek-R1"))
        asked = Policy(file=file).of(shelved.manifest)
        found = check_demands(asked, shelved, trusted=None, proof=unsigned, reference=None)
        return [one.rule.name for one in found]

    assert demanded("holds") == []
    assert demanded("signed") == ["policy-commit"]


# --- rules ---------------------------------------------------------------------------------------


def test_a_rule_turned_down_is_shown_with_its_reason(judge, policy, minilm_copy):
    (minilm_copy / "README.md").write_text("another")
    assert judge(policy())[0] == 1
    path = policy(after=rule("file-size", "warning", days=9, reason="later readme"))
    status, report = judge(path)
    assert status == 0
    one = finding(report, "file-size")
    assert one["severity"] == "warning"
    assert one["message"].endswith(
        f"; let through as warning by policy: later readme, until {day(9)}"
    )
    # By its id it is the same rule.
    assert judge(policy(after=rule("R1P003", "note")))[0] == 0


def test_a_rule_that_is_off_is_named_in_coverage(judge, policy, minilm_copy):
    (minilm_copy / "NOTES.md").write_text("hello")
    status, report = judge(policy(after=rule("file-unlisted", "off", reason="we add notes")))
    assert status == 0
    assert "file-unlisted" not in {one["name"] for one in report["findings"]}
    (one,) = row(report, "R1P002 file-unlisted")
    assert (one["state"], one["required"]) == ("skipped", False)
    assert one["detail"] == "off by policy: we add notes; 1 finding not shown: NOTES.md"


def test_a_rule_whose_exception_expired_counts_again(judge, policy, minilm_copy):
    (minilm_copy / "NOTES.md").write_text("hello")
    status, report = judge(policy(after=rule("file-unlisted", "off", days=-1)))
    assert status == 1
    assert errors(report) == {("file-unlisted", "NOTES.md")}
    assert finding(report, "policy-expired")["subject"] == "rules.file-unlisted"


def test_a_rule_can_be_turned_up(verify, policy, case):
    (case.model / "modeling_x.py").write_text("class X: pass\n")
    case.create()
    how = ["--manifest", case.name, "--keys", case.keys]
    assert verify(case.model, *how)[0] == 0
    path = policy(name="m", after=rule("custom-code", "error", reason="no code"))
    status, report = verify(case.model, *how, "--policy", path)
    assert (status, errors(report)) == (1, {("custom-code", "modeling_x.py")})
    assert report["headline"].endswith(")")
    assert row(report, "policy")[0]["detail"].endswith("; 1 finding raised")
    assert "raised as error by policy: no code" in finding(report, "custom-code")["message"]


@pytest.mark.parametrize("name", ["file-digest", "file-size"])
def test_weights_keep_their_rule(judge, policy, minilm_copy, name):
    path = minilm_copy / "model.safetensors"
    with path.open("r+b") as stream:
        if name == "file-digest":
            stream.seek(50_000_000)
            stream.write(b"\1\2\3\4")
        else:
            stream.truncate(80_000_000)
    status, report = judge(policy(after=rule(name, "off")))
    assert status == 1
    assert (name, "model.safetensors") in errors(report)


def test_a_changed_config_may_be_let_through_and_code_may_not(verify, policy, case):
    (case.model / "modeling_x.py").write_text("class X: pass\n")
    case.create()
    how = ["--manifest", case.name, "--keys", case.keys]
    path = policy(name="m", after=rule("file-digest", "warning"))
    (case.model / "tokenizer_config.json").write_text("[]")
    assert verify(case.model, *how)[0] == 1
    status, report = verify(case.model, *how, "--policy", path)
    assert errors(report) <= {("config-json", "tokenizer_config.json")}
    (case.model / "tokenizer_config.json").write_text("{}")
    (case.model / "modeling_x.py").write_text("class Y: pass\n")
    status, report = verify(case.model, *how, "--policy", path)
    assert (status, errors(report)) == (1, {("file-digest", "modeling_x.py")})


def test_unsigned_is_enough_only_where_the_manifest_is_pinned(verify, policy, case, tmp_path):
    for bundle in tmp_path.glob("m.toml.*"):
        bundle.unlink()
    how = ["--manifest", case.name, "--keys", case.keys, "--policy"]
    off = rule("signature-missing", "warning", reason="pinned here")
    status, report = verify(case.model, *how, policy(name="m", after=off))
    assert status == 4
    assert "models[0] has no `manifest_sha256`" in report["error"]
    import hashlib

    pin = hashlib.sha256(case.manifest.read_bytes()).hexdigest()
    path = policy(f'manifest_sha256 = "{pin}"', name="m", after=off)
    status, report = verify(case.model, *how, path)
    assert status == 0
    assert report["manifest"]["trusted"] is False
    case.manifest.write_bytes(case.manifest.read_bytes() + b"\n")
    status, report = verify(case.model, *how, path)
    assert (status, errors(report)) == (1, {("policy-manifest", "m.toml")})


# --- partial manifests ---------------------------------------------------------------------------


def strip(case, *paths):
    from dataclasses import replace

    def without(manifest):
        files = tuple(
            replace(one, sha256=None) if one.path in paths else one for one in manifest.files
        )
        return replace(manifest, files=files)

    case.restate(without)


def test_partial_manifests(verify, policy, case):
    how = ["--manifest", case.name, "--keys", case.keys, "--policy"]
    allowed = 'partial_manifests = "allow"'
    strip(case, "tokenizer_config.json")
    assert verify(case.model, *how, policy(name="m"))[0] == 3
    status, report = verify(case.model, *how, policy(name="m", top=allowed))
    assert status == 0
    (one,) = row(report, "SHA-256 of other files")
    assert "let through by policy: tokenizer_config.json" in one["detail"]
    # Weights without a digest are never enough.
    weights = sorted(path.name for path in case.model.glob("*.safetensors"))[0]
    strip(case, weights)
    assert verify(case.model, *how, policy(name="m", top=allowed))[0] == 3


def test_an_extra_file_of_an_open_listing(verify, policy, case):
    from dataclasses import replace

    case.restate(lambda manifest: replace(manifest, complete_listing=False))
    (case.model / "generation_config.json").write_text("{}")
    how = ["--manifest", case.name, "--keys", case.keys, "--policy"]
    assert verify(case.model, *how, policy(name="m"))[0] == 3
    named = policy(allow("extra", "generation_config.json"), name="m")
    assert verify(case.model, *how, named)[0] == 0
    # A rule that is only shown less does not count as an exception from coverage.
    assert verify(case.model, *how, policy(name="m", after=rule("not-covered", "off")))[0] == 3
    assert verify(case.model, *how, policy(name="m", top='partial_manifests = "allow"'))[0] == 0


@pytest.fixture
def applied(case):
    """Apply a policy to findings and rows of the small model, on a day and with digests known."""
    from r1prov.manifest.schema import parse_manifest
    from r1prov.verify.apply_policy import apply_policy
    from r1prov.verify.policy import Policy
    from r1prov.verify.policy_file import load_policy

    def call(path, findings, rows, *, without=(), today=TODAY):
        parsed = parse_manifest(case.manifest.read_bytes(), subject="m")
        known = frozenset(one.path for one in parsed.files) - set(without)
        asked = Policy(file=load_policy(path)).of(parsed)
        return apply_policy(findings, rows, asked, manifest=parsed, digested=known, today=today)

    return call


def test_only_rows_that_the_exceptions_explain_are_waived(applied, policy):
    from r1prov.verify.findings import Coverage, CoverageState
    from r1prov.verify.findings import finding as found

    path = policy(allow("missing", "tokenizer_config.json"), name="m")
    gone = found("file-missing", "tokenizer_config.json", "gone", part=Part.OTHER)
    item = "SHA-256 of other files"
    skipped = Coverage(item, CoverageState.SKIPPED, "x")
    unread = Coverage(item, CoverageState.UNREAD, "x")
    rows = applied(path, [gone], [skipped, unread], without=[gone.subject]).coverage
    assert [one.required for one in rows[:2]] == [False, True]
    # Nothing missing: whatever left the row open is not what the policy lets through.
    rows = applied(path, [], [skipped]).coverage
    assert rows[0].required
    # One more file without a digest, and the row is required.
    rows = applied(path, [gone], [skipped], without=[gone.subject, "config.json"]).coverage
    assert rows[0].required


def test_the_last_day_counts(applied, policy):
    from r1prov.verify.findings import finding as found

    extra = found("file-unlisted", "NOTES.md", "extra", part=Part.OTHER)
    path = policy(allow("extra", "NOTES.md", days=0), name="m")
    assert applied(path, [extra], []).exceptions == 1
    assert applied(path, [extra], [], today=TODAY + timedelta(days=1)).exceptions == 0


def test_code_without_a_digest_is_never_enough(verify, policy, case):
    (case.model / "modeling_x.py").write_text("class X: pass\n")
    case.create()
    strip(case, "modeling_x.py")
    how = ["--manifest", case.name, "--keys", case.keys, "--policy"]
    status, report = verify(case.model, *how, policy(name="m", top='partial_manifests = "allow"'))
    assert status == 3
    assert row(report, "SHA-256 of other files")[0]["required"] is True


# --- digests at second hand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "how"), [("cached_digests", "cached"), ("stated_digests", "stated")]
)
def test_second_hand_digests_may_be_refused(policy, key, how):
    from r1prov.verify.apply_policy import apply_policy
    from r1prov.verify.findings import Verdict, decide
    from r1prov.verify.policy import Policy
    from r1prov.verify.policy_file import load_policy

    def verdict(word, paths):
        file = load_policy(policy(top=f'{key} = "{word}"'))
        applied = apply_policy(
            [],
            [],
            Policy(file=file),
            manifest=None,
            digested=frozenset(),
            today=date(2026, 1, 1),
            **{how: frozenset(paths)},
        )
        return decide(applied.findings, applied.coverage), applied.coverage

    assert verdict("allow", ["a"])[0] is Verdict.PASS
    assert verdict("refuse", [])[0] is Verdict.PASS
    incomplete, coverage = verdict("refuse", ["a", "b"])
    assert incomplete is Verdict.INCOMPLETE
    assert coverage[0].item == f"{how} digests refused by policy"
    assert "2 files not read in this run: a, b" in coverage[0].detail


# --- a policy inside the model -------------------------------------------------------------------


def test_a_policy_that_the_model_brings_is_ignored(verify, rules, minilm_copy, monkeypatch):
    evil = (
        'schema = "r1prov/policy/1"\n[[models]]\nname = "*"\n'
        + allow("extra", "r1prov.toml")
        + rule("file-unlisted", "off")
    )
    (minilm_copy / "r1prov.toml").write_text(evil)
    monkeypatch.chdir(minilm_copy)
    status, report = verify(".")
    assert status == 1
    assert errors(report) == {("file-unlisted", "r1prov.toml")}
    assert finding(report, "policy-in-model")["severity"] == "warning"
    # Nor by a file of the model, nor from below it.
    monkeypatch.chdir(minilm_copy / "1_Pooling")
    (minilm_copy / "1_Pooling" / "r1prov.toml").write_text(evil)
    assert {"policy-in-model"} <= rules(verify("..")[1], "warning")
    monkeypatch.chdir(minilm_copy)
    assert {"policy-in-model"} <= rules(verify("model.safetensors")[1], "warning")


def test_a_pyproject_of_the_model_is_ignored(verify, rules, minilm_copy, monkeypatch):
    text = '[tool.r1prov]\nschema = "r1prov/policy/1"\nmodels = [{name = "*"}]\n'
    (minilm_copy / "pyproject.toml").write_text(text)
    monkeypatch.chdir(minilm_copy)
    assert "policy-in-model" in rules(verify(".")[1], "warning")
    (minilm_copy / "pyproject.toml").write_text("[tool.other]\n")
    assert "policy-in-model" not in rules(verify(".")[1], "warning")


def test_a_named_policy_inside_the_model_is_refused(verify, minilm_copy, monkeypatch, policy):
    inside = minilm_copy / "r1prov.toml"
    shutil.copy(policy(), inside)
    status, report = verify(minilm_copy, "--policy", inside)
    assert status == 2
    assert "inside the model" in report["error"]
    inside.unlink()
    # A link in the model to a policy elsewhere is as much the model's.
    inside.symlink_to(policy())
    assert verify(minilm_copy, "--policy", inside)[0] == 2
    # So is one elsewhere that leads into it.
    within = minilm_copy / "p.toml"
    shutil.copy(policy(), within)
    outside = minilm_copy.parent / "outside.toml"
    outside.symlink_to(within)
    assert verify(minilm_copy, "--policy", outside)[0] == 2
    # Beside a single weight file, whoever names a policy means it.
    weights = minilm_copy / "model.safetensors"
    assert verify(weights, "--policy", within)[0] != 2
    monkeypatch.setenv("R1PROV_POLICY", str(inside))
    assert verify(minilm_copy)[0] == 2


def test_the_report_is_the_same_in_text(policy, minilm_copy, capsys):
    (minilm_copy / "NOTES.md").write_text("hello")
    path = policy(allow("extra", "NOTES.md", reason="our notes"))
    assert run(["verify", str(minilm_copy), "--policy", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"let through by policy: our notes, until {day(30)}" in out
    assert json.dumps(str(path))[1:-1] in out
