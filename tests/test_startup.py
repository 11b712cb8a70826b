"""Start-up is a feature: what the light commands may load is fixed here, not how long they take."""

import json
import subprocess
import sys

HEAVY = [
    "cryptography",
    "huggingface_hub",
    "pydantic",
    "rich",
    "safetensors",
    "tomli",
    "r1prov.verify.pipeline",
]


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_importing_the_package_loads_nothing_of_it():
    modules = loaded_by("import r1prov")
    assert [name for name in modules if name.startswith("r1prov.")] == []


def test_version_loads_nothing_heavy():
    modules = loaded_by("from r1prov.cli.app import run; assert run(['--version']) == 0")
    assert [name for name in HEAVY if name in modules] == []


def test_every_public_name_can_be_had():
    import r1prov

    for name in r1prov.__all__:
        assert getattr(r1prov, name) is not None
    assert set(r1prov.__all__) <= set(dir(r1prov))
