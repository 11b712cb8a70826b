"""The R1 family at full scale: true headers of every tensor, sparse data."""

import json
import os
import shutil
from pathlib import Path

import pytest

from r1prov.cli.app import run

CONFIGS = Path(__file__).parents[2] / "manifests" / "facts" / "configs"


@pytest.fixture(scope="session")
def skeletons(tmp_path_factory):
    """Directories by model name: DeepSeek-R1 with all 163 shards, and one distill."""
    from r1prov.family.skeleton import write_skeleton

    root = tmp_path_factory.mktemp("skeletons")
    made = {}
    for name, config in {
        "DeepSeek-R1": "DeepSeek-R1@5a56bdb.json",
        "DeepSeek-R1-Distill-Qwen-7B": "DeepSeek-R1-Distill-Qwen-7B.json",
    }.items():
        made[name] = root / name
        write_skeleton((CONFIGS / config).read_bytes(), made[name])
    return made


@pytest.fixture
def identify(capsys):
    def call(directory):
        capsys.readouterr()
        status = run(["identify", str(directory), "--format", "json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def copy_sparse(source, target):
    """Copy a skeleton by hard links: replacing a file in the copy leaves the original alone."""
    return shutil.copytree(source, target, copy_function=os.link)


def test_r1_is_identified_from_its_91991_tensors(identify, skeletons):
    status, result = identify(skeletons["DeepSeek-R1"])
    assert status == 0
    assert (result["kind"], result["name"]) == ("full", "DeepSeek-R1")
    assert result["tensors"] == 91_991
    assert any("DeepSeek-V3" in line for line in result["cannot_tell"])


def test_a_distill_is_identified_as_that_distill(identify, skeletons):
    status, result = identify(skeletons["DeepSeek-R1-Distill-Qwen-7B"])
    assert status == 0
    assert (result["kind"], result["name"]) == ("distill", "DeepSeek-R1-Distill-Qwen-7B")


def test_r1_structure_is_incomplete_not_a_pass(verify, rules, skeletons):
    status, report = verify(
        skeletons["DeepSeek-R1"], "--level", "structure", "--expect", "full", "--scope", "weights"
    )
    assert report["manifest"]["name"] == "DeepSeek-R1"
    assert rules(report) == set()
    assert (status, report["verdict"]) == (3, "incomplete")
    assert report["tensors"] == 91_991
    checked = {one["item"]: one["state"] for one in report["coverage"]}
    assert checked["inventory against the manifest"] == "checked"
    assert checked["config.json against headers"] == "checked"
    assert checked["SHA-256 of weight files"] == "skipped"
    assert any("signed by the Hub's key" in line for line in report["provenance"])


def test_a_distill_is_not_the_full_model(verify, rules, skeletons):
    status, report = verify(
        skeletons["DeepSeek-R1-Distill-Qwen-7B"], "--level", "structure", "--expect", "full"
    )
    assert status == 1
    assert "model-not-expected" in rules(report)


def test_a_config_of_r1_over_a_distills_weights_fails(verify, rules, skeletons, tmp_path):
    fake = copy_sparse(skeletons["DeepSeek-R1-Distill-Qwen-7B"], tmp_path / "r1")
    (fake / "config.json").unlink()
    shutil.copy(skeletons["DeepSeek-R1"] / "config.json", fake / "config.json")
    for scope in ("all", "weights"):
        status, report = verify(fake, "--level", "structure", "--scope", scope)
        assert status == 1
        assert "config-mismatch" in rules(report)


def test_a_distill_in_a_directory_called_deepseek_r1_fails(verify, rules, skeletons, tmp_path):
    fake = copy_sparse(skeletons["DeepSeek-R1-Distill-Qwen-7B"], tmp_path / "DeepSeek-R1")
    status, report = verify(fake, "--level", "structure")
    assert status == 1
    assert "name-claim" in rules(report)


def test_a_missing_shard_is_named_and_the_model_still_recognised(
    verify, rules, skeletons, tmp_path
):
    part = copy_sparse(skeletons["DeepSeek-R1"], tmp_path / "part")
    (part / "model-00100-of-000163.safetensors").unlink()
    status, report = verify(part, "--level", "structure")
    assert status == 1
    assert report["manifest"]["name"] == "DeepSeek-R1"
    missing = [f["subject"] for f in report["findings"] if f["name"] == "file-missing"]
    assert "model-00100-of-000163.safetensors" in missing


def test_a_single_file_dropped_beside_the_shards_fails(verify, rules, skeletons, tmp_path):
    part = copy_sparse(skeletons["DeepSeek-R1"], tmp_path / "shadow")
    (part / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    status, report = verify(part, "--level", "structure")
    assert status == 1
    assert "shadowing-file" in rules(report)
