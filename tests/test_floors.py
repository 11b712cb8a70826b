"""A package imports only from floors below its own. The table here is the architecture."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "r1prov"

FLOORS = {
    "errors": 0,
    "limits": 0,
    "text": 1,
    "formats": 2,
    "hashing": 2,
    "stores": 3,
    "trust": 4,
    "manifest": 5,
    "family": 6,
    "verify": 7,
    "attest": 8,
    "responses": 8,
    "endpoints": 9,
    "attention": 10,
    "evidence": 10,
    "render": 11,
    "cli": 12,
}


def imports_of(path: Path) -> set[str]:
    """Modules of r1prov that a file imports, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "r1prov":
                found |= {f"r1prov.{alias.name}" for alias in node.names}
            found.add(module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("r1prov.")}


def part(module: str) -> str:
    return module.split(".")[1]


FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem not in {"__init__", "__main__"}
)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports_of(path):
        other = part(module)
        if other == own:
            continue
        assert FLOORS[other] < FLOORS[own], f"{own} imports {module}, which is not below it"


def test_the_table_names_every_package():
    present = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert present - {"__init__", "__main__", "__pycache__", "_data", "py"} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable_in_one_sitting(path: Path):
    assert len(path.read_text().splitlines()) <= 450
