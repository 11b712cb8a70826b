"""The manifest's TOML: strict in, deterministic out."""

import re
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ManifestError
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.hub_commit import HubCommit, TreeEntry
from r1prov.manifest.schema import (
    STRENGTHS,
    VARIANTS,
    Architecture,
    FileEntry,
    Manifest,
    Role,
    Source,
    parse_manifest,
)

SHA = "ab" * 32
MINIMAL = f"""
schema = "r1prov/manifest/1"
[model]
name = "m"
publisher = "p"
variant = "other"
source = ""
revision = ""
license = "MIT"
complete_listing = true
[architecture]
model_type = "qwen2"
parameters = 2
tensors = 1
dtypes = {{ BF16 = 1 }}
inventory_sha256 = "{SHA}"
layers = 1
hidden_size = 1
vocabulary = 1
experts = 0
attention_heads = 1
[[files]]
path = "a.bin"
size = 1
sha256 = "{SHA}"
role = "weights"
[[provenance.sources]]
figure = "f"
source = "s"
strength = "one"
"""


def parse(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return parse_manifest(raw, subject="m.toml")


def test_the_minimal_manifest_parses():
    manifest = parse(MINIMAL)
    assert manifest.name == "m"
    assert manifest.complete
    assert manifest.files == (FileEntry("a.bin", 1, SHA, Role.WEIGHTS),)
    assert re.fullmatch("[0-9a-f]{64}", manifest.tree_digest())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "m"', 'name = "m"\nnmae = "x"', "unknown key `nmae`"),
        ("[model]", "extra = 1\n[model]", "unknown key `extra`"),
        ('role = "weights"', 'role = "weights"\nmd5 = "x"', "unknown key `md5`"),
        ("layers = 1", "layers = 1\nlayer = 2", "unknown key `layer`"),
        ('strength = "one"', 'strength = "one"\nby = "x"', "unknown key `by`"),
        ("[[provenance.sources]]", "[provenance.x]\n[[provenance.sources]]", "unknown key `x`"),
        ("manifest/1", "manifest/2", "upgrade"),
        ("manifest/1", "manifest/x", "schema is"),
        ("r1prov/manifest/1", "other/1", "schema is"),
        ('schema = "r1prov/manifest/1"', "", "`schema` is missing"),
        ('name = "m"', 'name = ".m"', "not of the form"),
        ('name = "m"', 'name = "a/b"', "not of the form"),
        ('name = "m"', f'name = "{"m" * 129}"', "not of the form"),
        ('name = "m"', "name = 1", "must be a string"),
        ('publisher = "p"', 'publisher = ""', "is empty"),
        ('publisher = "p"', r'publisher = "p\u202E"', "unprintable"),
        ('publisher = "p"', r'publisher = "\u001b[2J"', "unprintable"),
        ('variant = "other"', 'variant = "Full"', "not one of"),
        ("complete_listing = true", "complete_listing = 1", "true or false"),
        ("complete_listing = true", "", "`complete_listing` is missing"),
        ('license = "MIT"', 'license = "MIT"\nreleased = "2025-01-20"', "a date"),
        ('license = "MIT"', 'license = "MIT"\nreleased = 2025-01-20T00:00:00', "a date"),
        ('license = "MIT"', 'license = "MIT"\nuntracked_dirs = ["../x"]', "untracked_dirs"),
        ('license = "MIT"', 'license = "MIT"\nsame_headers_as = ["a", "a"]', "twice"),
        ('license = "MIT"', 'license = "MIT"\nsame_headers_as = "a"', "array of strings"),
        ("size = 1", "size = true", "must be an integer"),
        ("size = 1", "size = 1.0", "must be an integer"),
        ("size = 1", 'size = "1"', "must be an integer"),
        ("size = 1", "size = -1", "outside"),
        ("size = 1", "size = 9223372036854775808", "outside"),
        ("\nsize = 1", "", "a sha256 and no size"),
        (f'sha256 = "{SHA}"\nrole', f'sha256 = "{SHA.upper()}"\nrole', "not of the form"),
        (f'sha256 = "{SHA}"\nrole', f'sha256 = "{SHA[:-1]}"\nrole', "not of the form"),
        (f'sha256 = "{SHA}"\nrole', f'sha256 = "{SHA}\\n"\nrole', "unprintable"),
        ('role = "weights"', 'role = "weight"', "not one of"),
        ("dtypes = { BF16 = 1 }", "dtypes = { BF16 = 2 }", "add up"),
        ("dtypes = { BF16 = 1 }", "dtypes = { bf16 = 1 }", "not of the form"),
        ("dtypes = { BF16 = 1 }", "dtypes = { BF16 = true }", "must be an integer"),
        ('strength = "one"', 'strength = "sure"', "not one of"),
        ("experts = 0", "experts = 0\nconfig = { a = [[[1]]] }", "table of strings"),
        ("experts = 0", "experts = 0\nconfig = { a = inf }", "table of strings"),
        ("experts = 0", "experts = 0\nconfig = 3", "table of strings"),
        ("[model]", "[model]\n[model]", "line 4"),
        ("layers = 1", "layers = = 1", "line 1"),
    ],
)
def test_one_wrong_thing_is_refused_and_named(old, new, message):
    assert old in MINIMAL
    with pytest.raises(ManifestError) as caught:
        parse(MINIMAL.replace(old, new, 1))
    assert message in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.subject == "m.toml"


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "a/../b", "./a", "a//b", "a/", "C:\\\\x", "a\\\\b", "", "."),
        *("a\\u0000b", "a\\nb", "CON", "aux.json", "x.", "x ", "a:b", "a\\u202Eb", "e\\u0301"),
    ],
)
def test_paths_of_the_attack_list_are_refused(path):
    with pytest.raises(ManifestError):
        parse(MINIMAL.replace('path = "a.bin"', f'path = "{path}"'))


@pytest.mark.parametrize("other", ["a.bin", "A.BIN", "a.bin/x"])
def test_two_paths_that_are_one_file_are_refused(other):
    second = f'[[files]]\npath = "{other}"\nrole = "other"\n'
    with pytest.raises(ManifestError, match="lists"):
        parse(MINIMAL.replace("[[provenance.sources]]", second + "[[provenance.sources]]"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "`schema` is missing"),
        (b'schema = "r1prov/manifest/1"\n', "`model` is missing"),
        (b"\xef\xbb\xbf" + MINIMAL.encode(), "byte order mark"),
        (MINIMAL.encode("utf-16"), "UTF-16"),
        (b"{}", "JSON"),
        (b"<html>", "HTML"),
        (b"PK\x03\x04", "zip"),
        (b"\n\na = '\xff'", "line 3: not UTF-8"),
        (b"a = " + b"[" * 5000, ""),
        (b"a = " + b"9" * 5000, ""),
        (b"a = 2025-02-30", ""),
        (b"a." * 100_000 + b"b = 1", ""),
        (b"#" * (16 * 1024 * 1024 + 1), "the cap is"),
    ],
)
def test_foreign_and_hostile_bytes_are_a_manifest_error(raw, message):
    with pytest.raises(ManifestError) as caught:
        parse(raw)
    assert message in caught.value.message


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw):
    with pytest.raises(ManifestError):
        parse(raw)


@given(st.text(max_size=40), st.integers(0, len(MINIMAL)))
def test_no_change_to_a_manifest_raises_anything_else(text, position):
    with suppress(ManifestError):
        parse((MINIMAL[:position] + text + MINIMAL[position:]).encode("utf-8", "replace"))


def test_a_partial_manifest_has_no_tree_digest():
    partial = parse(MINIMAL.replace(f'sha256 = "{SHA}"\nrole', "role"))
    assert not partial.complete
    assert partial.files[0].size == 1
    with pytest.raises(ManifestError, match=r"a\.bin"):
        partial.tree_digest()


# --- the way out and back --------------------------------------------------------------------

plain = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"]),
    min_size=1,
    max_size=40,
)
raw_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
sizes = st.integers(0, 2**63 - 1)
sha256 = st.text("0123456789abcdef", min_size=64, max_size=64)
git_id = st.text("0123456789abcdef", min_size=40, max_size=40)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    plain,
)
facts = st.dictionaries(
    plain,
    st.one_of(
        scalars,
        st.lists(scalars, max_size=3),
        st.dictionaries(plain, st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=3),
    ),
    max_size=4,
)


@st.composite
def file_entries(draw):
    names = draw(
        st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=4, unique=True)
    )
    found = []
    for name in names:
        size = draw(st.none() | sizes)
        digest = None if size is None else draw(st.none() | sha256)
        found.append(FileEntry(f"{name}.x", size, digest, draw(st.sampled_from(Role))))
    return tuple(found)


@st.composite
def architectures(draw):
    dtypes = draw(st.dictionaries(st.sampled_from(["BF16", "F32", "I64"]), st.integers(0, 2**40)))
    return Architecture(
        model_type=draw(plain),
        parameters=draw(sizes),
        tensors=sum(dtypes.values()),
        dtypes=dict(sorted(dtypes.items())),
        inventory_sha256=draw(sha256),
        layers=draw(sizes),
        hidden_size=draw(sizes),
        vocabulary=draw(sizes),
        experts=draw(sizes),
        attention_heads=draw(sizes),
        config=draw(facts),
    )


commits = st.builds(
    HubCommit,
    repo=plain,
    commit=git_id,
    tree=git_id,
    parents=st.lists(git_id, max_size=2, unique=True).map(tuple),
    author=raw_text,
    committer=raw_text,
    message=raw_text | st.just(""),
    signature=st.none() | raw_text,
    entries=st.lists(
        st.builds(
            TreeEntry,
            mode=st.sampled_from(["100644", "040000"]),
            name=raw_text,
            git_sha1=git_id,
            size=st.none() | sizes,
            sha256=st.none() | sha256,
            lfs=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
)
manifests = st.builds(
    Manifest,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    publisher=plain,
    variant=st.sampled_from(VARIANTS),
    source=plain | st.just(""),
    revision=plain | st.just(""),
    license=plain,
    files=file_entries(),
    base_model=st.none() | plain,
    released=st.none() | st.dates(min_value=date(1, 1, 1)),
    complete_listing=st.booleans(),
    untracked_dirs=st.just(()) | st.just(("figures", "a/b")),
    same_headers_as=st.lists(plain, max_size=3, unique=True).map(tuple),
    architecture=st.none() | architectures(),
    sources=st.lists(
        st.builds(Source, figure=plain, source=plain, strength=st.sampled_from(STRENGTHS)),
        max_size=3,
    ).map(tuple),
    hub_commit=st.none() | commits,
)


@given(manifests)
def test_what_is_written_is_read_back(manifest):
    raw = emit_manifest(manifest)
    assert parse_manifest(raw, subject="m") == manifest
    assert emit_manifest(parse_manifest(raw, subject="m")) == raw


def test_invisible_characters_are_written_as_escapes():
    commit = HubCommit(
        repo="r",
        commit="0" * 40,
        tree="1" * 40,
        parents=(),
        author="a\u202eb",
        committer="c\rd\x7f",
        message='\n"""\\\n\ttab',
        signature=None,
        entries=(),
    )
    manifest = Manifest(
        name="m",
        publisher="p",
        variant="other",
        source="",
        revision="",
        license="x",
        files=(FileEntry("a", None, None, Role.OTHER),),
        hub_commit=commit,
    )
    raw = emit_manifest(manifest)
    assert b"a\\u202Eb" in raw
    assert b"c\\rd\\u007F" in raw
    assert parse_manifest(raw, subject="m") == manifest
