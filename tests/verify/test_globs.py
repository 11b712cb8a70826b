"""Patterns of file names: what they match, what they are not, and that no name makes them slow."""

import time

import pytest

from r1prov.errors import NameRuleError
from r1prov.verify.globs import parse_glob


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("README.md", ["README.md"], ["readme.md", "a/README.md", "README.md2", "README.md\n"]),
        ("*.md", ["a.md", ".md"], ["a/b.md", "a.mdx", "a.MD"]),
        ("?.md", ["a.md", "字.md"], [".md", "ab.md", "/.md"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs", "docsx/a", "x/docs/a"]),
        ("d*/x?/**", ["d/x1/a", "dd/xx/a/b"], ["d/x1", "d/x/a", "d/e/x1/a"]),
        ("*/*", ["a/b"], ["a", "a/b/c"]),
        ("a[bc]", ["a[bc]"], ["ab", "ac"]),
        ("a[!b].*", ["a[!b].x"], ["ac.x"]),
        ("a.b", ["a.b"], ["aXb"]),
    ],
)
def test_matches(pattern, matching, others):
    glob = parse_glob(pattern)
    assert [name for name in matching if not glob.matches(name)] == []
    assert [name for name in others if glob.matches(name)] == []
    assert glob.exact is not any(sign in pattern for sign in "*?")


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "/etc/x", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "C:x", "con", "a" * 2000),
        *("**", "**/a", "a/**/b", "a**", "x/a**", "a\nb", "a\u202eb"),
    ],
)
def test_refused(pattern):
    with pytest.raises(NameRuleError):
        parse_glob(pattern)


@pytest.mark.parametrize("pattern", ["*", "*.*", "?*", "*/**"])
def test_broad(pattern):
    assert parse_glob(pattern).broad
    assert not parse_glob("a*").broad


def test_no_name_makes_a_pattern_slow():
    glob = parse_glob("*a" * 200 + "b")
    started = time.perf_counter()
    assert not glob.matches("a" * 1024)
    assert time.perf_counter() - started < 0.5
