"""The built wheel, installed into an empty environment, works without the checkout."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What only an extra can load: `endpoint`, `proxy` and `responses`.
IMPORT_ALL = """
import importlib, pkgutil, r1prov
from r1prov.errors import UsageError
extras = {
    "r1prov.endpoints.connection",
    "r1prov.responses.proxy_server",
    "r1prov.responses.proxy_upstream",
    "r1prov.responses.transport_httpx",
}
names = [m.name for m in pkgutil.walk_packages(r1prov.__path__, "r1prov.")]
for name in names:
    if name != "r1prov.__main__":
        try:
            importlib.import_module(name)
        except (ImportError, UsageError):
            if name not in extras:
                raise
print(len(names))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Directory of the executables of an environment with the wheel and its dependencies."""
    work = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", work, ROOT], check=True, cwd=work)
    (wheel,) = work.glob("r1prov-*.whl")
    venv.create(work / "env", with_pip=True)
    binaries = work / "env" / "bin"
    subprocess.run(
        [binaries / "python", "-m", "pip", "install", "--quiet", wheel], check=True, cwd=work
    )
    return binaries


def run(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("R1PROV", "PYTHON"))}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_every_module_imports(installed, tmp_path):
    done = run(installed / "python", "-c", IMPORT_ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_a_transport_whose_client_is_missing_names_the_extra(installed, tmp_path):
    code = "import sys; sys.modules['httpx'] = None; import r1prov.responses.transport_httpx"
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert "UsageError: this transport needs httpx" in done.stderr


def test_manifests_and_keys_travel_in_the_wheel(installed, tmp_path):
    done = run(installed / "r1prov", "manifest", "verify", "DeepSeek-R1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(installed.parent) in done.stdout


def test_the_report_schema_travels_in_the_wheel(installed, tmp_path):
    code = (
        "import json; from importlib.resources import files\n"
        "text = (files('r1prov.render') / 'schema' / 'report-1.json').read_bytes()\n"
        "print(json.loads(text)['title'])"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "r1prov/report/1\n", done.stderr


def test_the_schema_of_policies_travels_in_the_wheel(installed, tmp_path):
    code = (
        "from importlib.resources import files; import json;"
        "schema = files('r1prov.verify') / 'schema' / 'policy-1.json';"
        "print(json.loads(schema.read_bytes())['$id'])"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "urn:r1prov:policy:1\n", done.stderr


def test_the_token_counts_travel_in_the_wheel(installed, tmp_path):
    code = (
        "from r1prov.endpoints.tokens.reference import token_reference;"
        "print(token_reference().family_of('DeepSeek-R1').counts['digits'])"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "100\n", done.stderr


def test_no_secret_and_no_maker_travels(installed):
    data = next(installed.parent.glob("lib/python*/site-packages/r1prov/_data"))
    names = {path.name for path in data.rglob("*") if path.is_file()}
    assert names
    assert {name for name in names if not name.endswith((".toml", ".json", ".pub"))} == set()
    assert not any(b"PRIVATE" in path.read_bytes() for path in data.rglob("*") if path.is_file())
