from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import NameRuleError
from r1prov.formats.names import check_path, find_collisions, tensor_name_fault
from r1prov.text import printable


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "model-00001-of-000163.safetensors",
        "figures/benchmark.jpg",
        ".gitattributes",
        "a..b",
        "...a",
        "console.py",
        "com10.txt",
        "中文/说明.md",
        "é",
        "a b",
        "x" * 1024,
    ],
)
def test_good_paths(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "/etc/passwd", "../x", "a/../b", "./a", "a/.", "a//b", "a/", "//srv/x",
        "C:\\x", "C:x", "\\\\srv\\x", "a\\b", "https://x/y", "a:b",
        "a\0b", "a\nb", "\x1b[2J", "\x7f", "\x9b", "a\u202eb", "a\u200bb", "\ufeffa", "a\u3164",
        "a\u2028b", "a\u00a0b", "a\ue000", "a\ufe0f",
        "\udcff", "e\u0301", "x" * 1025, "é" * 513,
        "CON", "con", "aux.json", "a/NUL", "com1.tar.gz", "LPT9", "COM\u00b2", "conin$", "nul .txt",
        "x.", "x ", "a./b", "a /b", "....",
    ],
)  # fmt: skip
def test_bad_paths(path: str) -> None:
    with pytest.raises(NameRuleError) as caught:
        check_path(path)
    assert printable(caught.value.message) == caught.value.message


@given(st.text(st.characters(codec=None), max_size=12))
def test_any_text_passes_or_is_refused(path: str) -> None:
    try:
        check_path(path)
    except NameRuleError:
        return
    assert ".." not in path.split("/")
    assert printable(path) == path


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        (["a", "b", "a/b"], [("a", "a/b")]),
        (["a/b", "A"], [("A", "a/b")]),
        (["a/b/c", "a/b/d"], []),
        (["ab", "a/b"], []),
        (["Config.json", "config.json"], [("Config.json", "config.json")]),
        (["é", "e\u0301"], [("é", "e\u0301")]),
        (["stra\u00dfe", "STRASSE"], [("stra\u00dfe", "STRASSE")]),
        (["x", "x"], [("x", "x")]),
        (["x", "X", "x"], [("x", "X"), ("x", "x")]),
        (["a", "a/b/c"], [("a", "a/b/c")]),
        ([], []),
    ],
)
def test_collisions(paths: list[str], pairs: list[tuple[str, str]]) -> None:
    assert find_collisions(paths) == pairs


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.experts.7.down_proj.weight_scale_inv", "a..b", "a:0", "a/b", "层"]
)
def test_good_tensor_names(name: str) -> None:
    assert tensor_name_fault(name) is None


@pytest.mark.parametrize("name", ["", "..", "a/..", "/a", "a\\b", "a\n", "\ud800", "x" * 1025])
def test_bad_tensor_names(name: str) -> None:
    assert tensor_name_fault(name)
