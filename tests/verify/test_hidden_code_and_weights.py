"""Ways to bring in code or weights that no digest covers. Each must fail, in both scopes."""

import json
from dataclasses import replace

import pytest

from r1prov.cli.app import run
from r1prov.errors import ManifestError
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.schema import Role, parse_manifest
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.local import LocalStore
from r1prov.verify.findings import CoverageState, Verdict

PAYLOAD = b"0cos\nsystem\n(S'echo x'\ntR."
SCOPES = pytest.mark.parametrize("scope", ["all", "weights"])
FIRST = "model-00001-of-000002.safetensors"


def errors(report):
    return {(o.rule.name, o.subject) for o in report.findings if o.severity.value == "error"}


@SCOPES
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"custom_pipelines": {"x": {"impl": "evil--pipe.P", "pt": []}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil--tok.T", None]}}),
        ("generation_config.json", {"auto_map": {"A": "evil--g.G"}}),
        ("video_preprocessor_config.json", {"auto_map": {"A": "evil--v.V"}}),
        ("image_processor_config.json", {"auto_map": {"A": "mod.V"}}),
        ("sub/processor_config.json", {"deep": [{"auto_map": {"A": "evil--v.V"}}]}),
        ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "st_custom.Evil"}]),
        ("Tokenizer_Config.JSON", {"auto_map": {"A": "evil--v.V"}}),
    ],
)
def test_a_config_that_names_code_fails(case, scope, name, content):
    path = case.model / name
    path.parent.mkdir(exist_ok=True)
    if name == "config.json":
        content = json.loads(path.read_bytes()) | content
    path.write_text(json.dumps(content))
    report = case.verify(scope=scope)
    assert ("auto-map", name) in errors(report)
    assert report.verdict is Verdict.FAIL


def test_modules_of_the_library_itself_are_no_code_of_the_model(case):
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Pooling"}]
    (case.model / "modules.json").write_text(json.dumps(modules))
    case.create()
    assert case.verify().verdict is Verdict.PASS


@SCOPES
def test_a_config_that_only_a_lenient_reader_takes_fails(case, scope):
    (case.model / "generation_config.json").write_text(
        '{"a": 1, "a": {"auto_map": {"A": "e--f.G"}}}'
    )
    report = case.verify(scope=scope)
    assert ("config-json", "generation_config.json") in errors(report)


def test_signed_references_are_shown_and_pass(case):
    (case.model / "generation_config.json").write_text('{"auto_map": {"A": "other/repo--g.G"}}')
    case.create()
    report = case.verify()
    assert report.verdict is Verdict.PASS
    assert [o.severity.value for o in report.findings if o.rule.name == "auto-map"] == ["warning"]


@SCOPES
@pytest.mark.parametrize(
    "head",
    [
        b"GGUF\0\0\0\0\0" + PAYLOAD,
        b"GGUF\3\0\0\0\0" + PAYLOAD,
        b"N" + PAYLOAD,
        b"(lp0\n" + PAYLOAD,
        b"I1\n" + PAYLOAD,
    ],
)
def test_pickles_that_do_not_start_as_pickles_do(case, scope, head):
    (case.model / "weights.dat").write_bytes(head)
    report = case.verify(scope=scope)
    assert ("executable-file", "weights.dat") in errors(report)
    (one,) = [o for o in report.findings if o.rule.name == "executable-file"]
    assert "os.system" in (one.found or "")


@SCOPES
def test_an_unlisted_file_of_no_known_kind_fails(case, scope):
    (case.model / "weights.dat").write_bytes(b"anything")
    assert ("file-unlisted", "weights.dat") in errors(case.verify(scope=scope))


def test_an_unlisted_readme_is_let_be_under_scope_weights(case):
    (case.model / "README.md").write_text("later")
    assert case.verify(scope="all").verdict is Verdict.FAIL
    report = case.verify(scope="weights")
    assert report.verdict is Verdict.PASS
    (one,) = [o for o in report.findings if o.subject == "README.md"]
    assert "later revision" in (one.hint or "")


@SCOPES
@pytest.mark.parametrize("name", ["MODEL.safetensors", "Adapter_Config.json", "PYTORCH_MODEL.BIN"])
def test_shadowing_names_are_known_in_capitals(case, scope, name):
    (case.model / name).write_bytes(b"{}")
    assert ("shadowing-file", name) in errors(case.verify(scope=scope))


@SCOPES
def test_a_config_that_the_signer_did_not_list_does_not_make_it_his(case, scope):
    """Of a model type without a blueprint, a config can be checked by nobody."""
    (case.model / "config.json").write_text('{"model_type": "other"}')
    case.create()
    assert case.verify(scope=scope).verdict is Verdict.PASS
    case.restate(lambda m: replace(m, files=tuple(f for f in m.files if f.path != "config.json")))
    assert case.verify(scope=scope).verdict is not Verdict.PASS


@SCOPES
def test_code_without_a_digest_is_never_a_pass(case, scope):
    (case.model / "modeling.py").write_text("pass")
    case.create()

    def forget(manifest):
        files = (replace(f, sha256=None) if f.role is Role.CODE else f for f in manifest.files)
        return replace(manifest, files=tuple(files))

    case.restate(forget)
    assert case.verify(scope=scope).verdict is Verdict.INCOMPLETE
    (case.model / "modeling.py").unlink()
    assert case.verify(scope="weights").verdict is Verdict.PASS


def test_an_index_that_names_a_shard_which_nobody_has(case):
    def point_away(index):
        index["weight_map"]["lm_head.weight"] = "model-00003-of-000003.safetensors"

    case.index(point_away)
    assert run(["manifest", "create", str(case.model), "--name", "m", "-o", "n.toml"]) == 4
    report = case.verify()
    assert ("index-mismatch", "lm_head.weight") in errors(report)


@pytest.mark.parametrize("name", ["x.safetensors.index.json", "sub/model.safetensors.index.json"])
def test_every_index_is_held_against_the_shards(case, name):
    path = case.model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "gone.safetensors"}}))
    assert ("index-mismatch", "a") in errors(case.verify())


def test_a_shard_that_holds_more_than_the_index_says(case):
    case.index(lambda index: index["weight_map"].pop("lm_head.weight"))
    (one,) = [o for o in case.verify().findings if o.rule.name == "index-mismatch"]
    assert (one.subject, one.expected) == ("lm_head.weight", "in the index")
    assert "1 tensor in all" in one.message


def test_a_tensor_that_the_index_puts_into_the_wrong_shard(case):
    case.index(lambda index: index["weight_map"].update({"lm_head.weight": FIRST}))
    (one,) = [o for o in case.verify().findings if o.rule.name == "index-mismatch"]
    assert one.expected == f"in {FIRST}"
    assert one.found == "in model-00002-of-000002.safetensors"


@pytest.mark.parametrize("path", ["a.safetensors", "A.SAFETENSORS", "a.gguf", "a.py"])
def test_the_role_of_weights_and_code_is_not_for_a_manifest_to_choose(case, path):
    manifest = parse_manifest(case.manifest.read_bytes(), subject="m")
    hidden = replace(manifest.files[0], path=path, role=Role.DOCUMENT)
    with pytest.raises(ManifestError, match="it must be"):
        parse_manifest(emit_manifest(replace(manifest, files=(hidden,))), subject="m")


@SCOPES
def test_a_manifest_without_weights_is_no_ground_for_a_pass(case, scope):
    case.restate(lambda m: replace(m, files=tuple(f for f in m.files if f.role is Role.CONFIG)))
    report = case.verify(scope=scope)
    item = [c for c in report.coverage if c.item == "SHA-256 of weight files"]
    assert [(c.state, c.required) for c in item] == [(CoverageState.SKIPPED, True)]
    assert report.verdict is not Verdict.PASS


def test_weights_in_capitals_are_read(case):
    (case.model / FIRST).rename(case.model / FIRST.upper())
    assert run(["manifest", "create", str(case.model), "--name", "m", "-o", "n.toml"]) == 4
    (case.model / "model.safetensors.index.json").unlink()
    case.create()
    report = case.verify()
    assert report.verdict is Verdict.PASS
    assert report.tensors > 20


def test_weights_that_no_reader_knows_are_said_to_be_known_by_digest_only(case):
    (case.model / "weights.onnx").write_bytes(b"\x08\x07")
    case.create()
    report = case.verify()
    (item,) = [c for c in report.coverage if c.item == "structure of weight files"]
    assert item.state is CoverageState.SKIPPED
    assert "weights.onnx" in item.detail


def test_coverage_counts_what_is_equal(case):
    with (case.model / FIRST).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    (item,) = [c for c in case.verify().coverage if c.item == "SHA-256 of weight files"]
    assert item.detail == "2 of 3 files equal, 1 differ"


def test_a_program_called_a_leftover_is_not_dropped_from_a_manifest(case):
    (case.model / ".gitignore").write_text("#!/bin/sh\necho x\n")
    case.create()
    assert '".gitignore"' in case.manifest.read_text()


def test_configs_in_the_folders_of_tools_are_nobodys(case):
    (case.model / ".git").mkdir()
    (case.model / ".git" / "x_config.json").write_text("{,}")
    assert case.verify().verdict is Verdict.PASS


class HidesOne(LocalStore):
    """A directory below the model that the user may not look into."""

    def entries(self):
        hidden = Entry("locked", EntryKind.UNREADABLE, detail="permission denied")
        return sorted([*super().entries(), hidden], key=lambda entry: entry.path)


@SCOPES
def test_what_cannot_be_looked_at_leaves_the_verdict_incomplete(case, scope):
    case.store_class = HidesOne
    report = case.verify(scope=scope)
    assert report.verdict is Verdict.INCOMPLETE
    assert [o.subject for o in report.findings if o.rule.name == "file-unread"] == ["locked"]
