"""The table of Ollama tags: what the facts give and nothing else, parsed strictly."""

import copy
import hashlib
import importlib.util
import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ManifestError, NotFound
from r1prov.limits import MAX_MANIFEST_BYTES
from r1prov.manifest.ollama_tags import (
    MODEL_PATH,
    SIGNED_AS,
    load_ollama_tags,
    parse_ollama_tags,
)
from r1prov.manifest.schema import parse_manifest
from r1prov.trust.shipped import shipped_dir

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "manifests" / "ollama" / "tags.toml"
SHA = "ab" * 32
MINIMAL = f"""
schema = "r1prov/ollama-tags/1"
[[builds]]
id = "b"
model = "M"
variant = "other"
family = "llama"
parameters = "1B"
quantization = "Q4_K_M"
manifest_sha256 = "{SHA}"
complete = true
[[builds.layers]]
path = "model.gguf"
sha256 = "{SHA}"
size = 1
[[builds.sources]]
figure = "f"
source = "s"
strength = "one"
[[tags]]
name = "m:latest"
[[tags.history]]
build = "b"
since = "2025-01"
source = "s"
strength = "one"
[[mislabelled]]
sha256 = "{SHA}"
called = "x:y"
truth = "t"
source = "s"
"""


def parse(text: str):
    return parse_ollama_tags(text.encode(), subject="t")


@pytest.fixture(scope="module")
def generate():
    path = ROOT / "manifests" / "generate_ollama.py"
    spec = importlib.util.spec_from_file_location("generate_ollama", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def facts():
    return json.loads((ROOT / "manifests" / "facts" / "ollama.json").read_bytes())


# The shipped table


def test_generating_again_gives_the_shipped_bytes(generate, tmp_path, capsys):
    assert generate.main(["--output", str(tmp_path)]) == 0
    assert (tmp_path / "ollama" / "tags.toml").read_bytes() == TABLE.read_bytes()
    assert "14 builds, 12 tags" in capsys.readouterr().out


def test_the_table_is_found_where_it_is_shipped():
    shelved = load_ollama_tags()
    assert shelved.path == TABLE
    assert shelved.raw == TABLE.read_bytes()
    assert load_ollama_tags(TABLE) == shelved
    with pytest.raises(NotFound):
        load_ollama_tags(TABLE.with_name("absent.toml"))


# REPORT of the facts, first table: tag, model layer, bytes, `ID` of `ollama list`.
JANUARY = {
    "1.5b": ("aabd4debf0c8f0888192", 1_117_320_512, "a42b25d8c10a"),
    "7b": ("96c415656d377afbff96", 4_683_073_184, "0a8c26691023"),
    "8b": ("6340dc3229b0d08ea9cc", 4_920_736_320, "28f8fd6cdc67"),
    "14b": ("6e9f90f02bb3b39b59e8", 8_988_109_952, "ea35dfe18182"),
    "32b": ("6150cb382311b69f09cc", 19_851_335_552, "38056bbcbb2d"),
    "70b": ("4cd576d9aa1696124401", 42_520_395_616, "0c1615a8ca32"),
    "671b": ("9801e7fce27dbf3d0bfb", None, "739e1b229ad7"),
}


def test_the_first_builds_of_every_tag():
    tags = load_ollama_tags().tags
    for tag, (sha256, size, ollama_id) in JANUARY.items():
        history = tags.history(f"deepseek-r1:{tag}")
        assert history is not None
        first = history.steps[0]
        assert first.since == "2025-01"
        assert first.build.model_layer.sha256.startswith(sha256)
        assert first.build.model_layer.size == size
        assert first.build.manifest_sha256.startswith(ollama_id)
        assert tags.by_manifest(first.build.manifest_sha256) == first.build


def test_the_tag_that_changed_its_model():
    tags = load_ollama_tags().tags
    for name, models in {
        "deepseek-r1:8b": ["DeepSeek-R1-Distill-Llama-8B", "DeepSeek-R1-0528-Qwen3-8B"],
        "deepseek-r1:latest": ["DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-0528-Qwen3-8B"],
    }.items():
        history = tags.history(name)
        assert history is not None
        assert [step.build.model for step in history.steps] == models
        assert [step.since for step in history.steps] == ["2025-01", "2025-05"]
    assert tags.history("deepseek-r1:9b") is None


def test_a_published_manifest_digest_proves_every_digest_below_it(generate, facts):
    """Rebuilt byte for byte; one digit of one layer changed, and it is another manifest."""
    proved = 0
    for build in facts["builds"]:
        if build["config_layers"] is None:
            continue
        _, manifest = generate.rebuild(build, facts["blobs"])
        assert hashlib.sha256(manifest).hexdigest() == build["manifest_sha256"], build["id"]
        proved += 1
        for key in build["layers"]:
            for field, other in (("sha256", SHA), ("size", 1)):
                changed = copy.deepcopy(facts)
                changed["blobs"][key][field] = other
                with pytest.raises(generate.FactError, match="another than published"):
                    generate.render(changed)
    assert proved == 13


def test_only_the_full_model_is_partly_known():
    tags = load_ollama_tags().tags
    partial = [build for build in tags.builds if not build.complete]
    assert [build.model for build in partial] == ["DeepSeek-R1"]
    assert [build.model for build in tags.builds if build.variant == "full"] == ["DeepSeek-R1"]
    assert partial[0].total_size == 404_430_188_519
    for build in tags.builds:
        proved = any(source.strength == "proved-by-hash" for source in build.sources)
        assert proved == build.complete
        assert build.quantization == "Q4_K_M"


def test_every_build_names_a_model_of_ours_with_its_variant():
    for build in load_ollama_tags().tags.builds:
        path = ROOT / "manifests" / f"{build.model}.toml"
        manifest = parse_manifest(path.read_bytes(), subject=path.name)
        assert build.variant == manifest.variant
        assert manifest.architecture is not None
        # Ollama shows the parameters in billions with one digit.
        shown = f"{manifest.architecture.parameters / 1e9:.1f}B"
        assert build.parameters == shown, build.id


def test_mislabelled_digests_are_those_of_other_builds():
    tags = load_ollama_tags().tags
    by_name = {m.called: m for m in tags.mislabels}
    wrong = by_name["deepseek-r1:1.5b"]
    assert tags.by_model_layer(wrong.sha256)[0].model == "DeepSeek-R1"
    wrong = by_name["qwen2.5:32b"]
    assert {b.model for b in tags.by_model_layer(wrong.sha256)} == {"DeepSeek-R1-Distill-Qwen-32B"}
    wrong = by_name["qwen3-coder:30b"]
    build = tags.by_manifest(wrong.sha256)
    assert build is not None
    assert build.model == "DeepSeek-R1-Distill-Qwen-7B"
    made_up = by_name["deepseek-r1:8b"]
    assert tags.by_manifest(made_up.sha256) is None
    assert tags.by_model_layer(made_up.sha256) == ()
    (real,) = [b for b in tags.builds if b.manifest_sha256.startswith(made_up.sha256[:12])]
    assert real.manifest_sha256[:54] == made_up.sha256[:54]
    assert real.manifest_sha256[54] != made_up.sha256[54]
    assert "first 54 digits" in made_up.truth
    assert tags.mislabels_of(made_up.sha256) == (made_up,)


def test_the_projects_key_may_sign_it():
    text = (shipped_dir("keys") / "trust.toml").read_text()
    assert '"DeepSeek-R1*"' in text
    assert SIGNED_AS.startswith("DeepSeek-R1")


# The parser


def test_a_minimal_table():
    tags = parse(MINIMAL)
    assert tags.builds[0].layer(MODEL_PATH) == tags.builds[0].model_layer
    assert tags.builds[0].layer("template") is None
    assert tags.by_model_size(1) == tags.builds
    assert tags.by_model_size(2) == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ollama-tags/1", "ollama-tags/2", "schema"),
        ('id = "b"', 'id = "b"\nextra = 1', "unknown key"),
        ('id = "b"', 'id = "../b"', "not of the form"),
        (f'manifest_sha256 = "{SHA}"', f'manifest_sha256 = "{SHA.upper()}"', "not of the form"),
        ('variant = "other"', 'variant = "best"', "not one of"),
        ("complete = true", 'complete = "yes"', "true or false"),
        ("complete = true", "", "`complete` is missing"),
        ('path = "model.gguf"', 'path = "template"', "no layer `model.gguf`"),
        ('path = "model.gguf"', 'path = "../model.gguf"', "not of the form"),
        ("size = 1", "", "size of a layer is missing"),
        ("size = 1", "size = -1", "outside"),
        ('strength = "one"\n[[tags]]', 'strength = "sure"\n[[tags]]', "not one of"),
        ('name = "m:latest"', 'name = "m"', "not of the form"),
        ('build = "b"', 'build = "c"', "no build is called"),
        ('since = "2025-01"', 'since = "2025-13"', "not of the form"),
        ('since = "2025-01"', "since = 2025-01-01", "must be a string"),
        ('called = "x:y"', 'called = "x\\u202ey"', "unprintable"),
        ("[[mislabelled]]", "[[mislabeled]]", "unknown key"),
        ('[[builds.sources]]\nfigure = "f"\nsource = "s"\nstrength = "one"', "", "names no source"),
        (
            '[[tags.history]]\nbuild = "b"\nsince = "2025-01"\nsource = "s"\nstrength = "one"',
            "",
            "has no history",
        ),
    ],
)
def test_what_is_refused(old, new, reason):
    assert MINIMAL.count(old) >= 1
    with pytest.raises(ManifestError, match=re.escape(reason)):
        parse(MINIMAL.replace(old, new, 1))


def section(name: str) -> str:
    """The text from `[[name]]` to the next table that is not below it."""
    match = re.search(
        rf"(\[\[{name}\]\].*?)(?=\n\[\[(?!{name}\.)|\Z)", MINIMAL, re.DOTALL | re.MULTILINE
    )
    assert match
    return match[1] + "\n"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (section("builds"), "stands twice"),
        (section("builds").replace('id = "b"', 'id = "c"'), "stands twice"),
        (section("tags"), "stands twice"),
        (
            section("builds")
            .replace('id = "b"', 'id = "c"')
            .replace(f'manifest_sha256 = "{SHA}"', f'manifest_sha256 = "{"cd" * 32}"')
            .replace('model = "M"', 'model = "N"'),
            "different things",
        ),
    ],
)
def test_contradictions_in_one_table(more, reason):
    with pytest.raises(ManifestError, match=reason):
        parse(MINIMAL + more)


def test_history_must_be_in_order():
    step = '[[tags.history]]\nbuild = "b"\nsince = "2025-01"\nsource = "s"\nstrength = "one"\n'
    earlier = step.replace("2025-01", "2024-12")
    for more in (step, earlier):
        with pytest.raises(ManifestError, match="order"):
            parse(MINIMAL.replace(step, step + more))


def test_too_large():
    with pytest.raises(ManifestError, match="the cap is"):
        parse_ollama_tags(b"#" * (MAX_MANIFEST_BYTES + 1), subject="t")


@given(st.data())
def test_nothing_but_manifest_errors_leave(data):
    raw = MINIMAL.encode()
    cut = data.draw(st.integers(0, len(raw)))
    skip = data.draw(st.integers(0, 20))
    with suppress(ManifestError):
        parse_ollama_tags(
            raw[:cut] + data.draw(st.binary(max_size=10)) + raw[cut + skip :], subject="t"
        )


def test_the_page_has_every_row_of_the_table():
    rows = []
    tags = load_ollama_tags().tags
    for tag in tags.tags:
        for step in tag.steps:
            build, model = step.build, step.build.model_layer
            cells = (
                f"`{tag.name.partition(':')[2]}`",
                build.model,
                build.variant,
                step.since or "not known",
                f"`{build.manifest_sha256[:12]}`",
                f"`{model.sha256[:12]}`",
                "not known" if model.size is None else f"{model.size:,}",
                "proved by hash" if build.complete else "several",
            )
            rows.append(f"| {' | '.join(cells)} |")
    for wrong in tags.mislabels:
        digest = f"`{wrong.sha256[:12]}…{wrong.sha256[-6:]}`"
        rows.append(f"| {digest} | `{wrong.called}` | {wrong.truth} |")
    lines = (ROOT / "docs" / "ollama.md").read_text().splitlines()
    assert [line for line in lines if line in set(rows)] == rows
