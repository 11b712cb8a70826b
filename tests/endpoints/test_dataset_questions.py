"""Test sets out of real data sets in Parquet: of a directory, and of a Hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hub_server import running_hub
from hypothesis import given
from hypothesis import strategies as st

from r1prov.cli.app import run
from r1prov.endpoints import dataset_questions
from r1prov.endpoints.dataset_name import is_dataset_name, parse_dataset_name
from r1prov.endpoints.dataset_questions import load_dataset_questions
from r1prov.endpoints.question_set import parse_question_set, score
from r1prov.errors import NotFound, QuestionSetError, R1ProvError, UsageError

SENTENCES = ("a warm and funny film", "dull {from} start to end", "it works", "two lost hours")
HUMAN_EVAL = {
    "task_id": ["HumanEval/0"],
    "prompt": ["def add(a, b):\n    '''Sum.'''\n"],
    "test": ["def check(f):\n    assert f(1, 2) == 3\n"],
    "entry_point": ["add"],
}
MBPP = {
    "text": ["Write a function to double a number."],
    "test_list": [["assert double(2) == 4", "assert double(0) == 0"]],
}
MMLU = {
    "question": ["Which is a fruit?", "Which is a metal?"],
    "choices": [["iron", "apple", "salt"], ["iron", "apple", "salt"]],
    "answer": [1, 0],
    "letter": ["B", "a"],
    "right": ["apple", "iron"],
}
GSM8K = {"question": ["How many legs have 3 cats?"], "answer": ["3 * 4 = 12\n#### 12"]}


def labelled(labels):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(
        {
            "sentence": Value("string"),
            "label": ClassLabel(names=["negative", "positive"]),
            "idx": Value("int32"),
        }
    )
    columns = {"sentence": SENTENCES, "label": labels, "idx": range(len(SENTENCES))}
    return Dataset.from_dict({k: list(v) for k, v in columns.items()}, features=features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set as GLUE's SST-2 is, and others of the shapes that are common."""
    from datasets import Dataset

    home = tmp_path_factory.mktemp("sets")
    for split, labels in (
        ("train", [1, 0, None, 0]),
        ("validation", [1, 0, 1, 0]),
        ("test", [-1] * 4),
    ):
        labelled(labels).to_parquet(home / "sst2" / f"{split}-00000-of-00001.parquet")
    for name, columns in (
        ("human_eval", HUMAN_EVAL),
        ("mbpp", MBPP),
        ("mmlu", MMLU),
        ("gsm8k", GSM8K),
        ("hidden", {"q": ["a", "b"], "a": [-1, -1], "b": [None, None], "n": [-1, 1]}),
        ("nested", {"q": ["a"], "a": [{"text": ["b"], "start": [1]}]}),
        ("many", {"q": [f"{n}?" for n in range(500)], "a": [str(n) for n in range(500)]}),
        ("wide", {"q": ["a"], "c": [["x"] * 11], "a": [0], "one": [["x"]]}),
    ):
        Dataset.from_dict(columns).to_parquet(home / name / "test.parquet")
    return home


def load(folder, name, **parameters):
    given = {"split": "test", **parameters}
    return load_dataset_questions(parse_dataset_name(f"dataset:{folder / name}?{urlencode(given)}"))


SST2 = {"split": "validation", "prompt": "sentence", "expected": "label"}


def test_labels_with_names_become_options(folder):
    found = load(folder, "sst2", **SST2)
    assert [one.expected for one in found.questions] == ["B", "A", "B", "A"]
    first = found.questions[0]
    assert first.id == "validation-0"
    assert first.scorer == "choice"
    assert first.prompt == (
        "a warm and funny film\n\nA) negative\nB) positive\n\n"
        "Answer with the letter of the right option."
    )
    assert "dull {from} start" in found.questions[1].prompt
    assert score(first, "The answer is B.")
    assert not score(first, "The answer is A.")
    # What is asked is what a file would hold, and its digest is that of the file.
    assert parse_question_set(found.raw, subject="x.jsonl") == found.questions


def test_a_template_of_ones_own(folder):
    asked = {**SST2, "prompt": "{{Film}} {sentence}\n{choices}\nLetter?"}
    found = load(folder, "sst2", **asked).questions[1]
    assert found.prompt == "{Film} dull {from} start to end\nA) negative\nB) positive\nLetter?"
    named = load(folder, "sst2", **{**SST2, "scorer": "exact", "prompt": "{sentence}: {label}?"})
    assert named.questions[0].expected == "positive"
    assert named.questions[0].prompt == "a warm and funny film: positive?"


@pytest.mark.parametrize("expected", ["answer", "letter", "right"])
def test_options_in_a_column(folder, expected):
    found = load(folder, "mmlu", prompt="question", expected=expected, choices="choices")
    assert [one.expected for one in found.questions] == ["B", "A"]
    assert "A) iron\nB) apple\nC) salt" in found.questions[0].prompt


def test_numbers_and_code(folder):
    (sum_,) = load(
        folder, "gsm8k", prompt="question", expected="answer", scorer="numeric"
    ).questions
    assert score(sum_, "So 3 cats have 12 legs.")
    assert not score(sum_, "13")
    asked = {"prompt": "prompt", "expected": "{test}\ncheck({entry_point})", "scorer": "code"}
    (code,) = load(folder, "human_eval", **asked).questions
    assert code.expected.endswith("== 3\n\ncheck(add)")
    (mbpp,) = load(folder, "mbpp", prompt="text", expected="test_list", scorer="code").questions
    assert mbpp.expected == "assert double(2) == 4\nassert double(0) == 0"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sst2", {**SST2, "split": "test"}),
        ("hidden", {"prompt": "q", "expected": "a"}),
        ("hidden", {"prompt": "q", "expected": "b"}),
    ],
)
def test_a_split_whose_labels_are_hidden_is_refused(folder, name, parameters):
    with pytest.raises(QuestionSetError, match=r"has no labels: .* in all") as caught:
        load(folder, name, **parameters)
    hint = str(caught.value.hint)
    assert "the test split of GLUE SST-2" in hint
    assert "validation" in hint


def test_a_number_that_happens_to_be_minus_one_is_no_hidden_label(folder):
    found = load(folder, "hidden", prompt="q", expected="n", scorer="numeric")
    assert [one.expected for one in found.questions] == ["-1", "1"]


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("sst2", {**SST2, "split": "train"}, QuestionSetError, "1 of 4 rows have no `label`"),
        ("sst2", {**SST2, "split": "dev"}, NotFound, "no split `dev`"),
        ("sst2", {**SST2, "prompt": "text"}, UsageError, "no column `text`"),
        ("sst2", {**SST2, "prompt": "{text}?"}, UsageError, "no column `text`"),
        ("sst2", {**SST2, "config": "cola"}, QuestionSetError, "cannot be read"),
        ("sst2", {**SST2, "choices": "options"}, UsageError, "no column `options`"),
        ("sst2", {**SST2, "scorer": "llm"}, QuestionSetError, "no scorer `llm`"),
        ("gsm8k", {"prompt": "{question}{choices}", "expected": "answer"}, UsageError, "choices"),
        ("gsm8k", {"prompt": "question", "expected": "answer", "scorer": "code"},
         QuestionSetError, "not Python"),
        ("nested", {"prompt": "q", "expected": "a"}, QuestionSetError, "neither text nor numbers"),
        ("wide", {"prompt": "q", "expected": "a", "choices": "c"}, QuestionSetError, "11 options"),
        ("wide", {"prompt": "q", "expected": "a", "choices": "one"}, QuestionSetError, "1 options"),
        ("nowhere", SST2, NotFound, "no directory"),
        (".", SST2, R1ProvError, r"column|split|cannot be read"),
    ],
)  # fmt: skip
def test_what_makes_no_questions(folder, name, parameters, error, message):
    with pytest.raises(error, match=message):
        load(folder, name, **parameters)


def test_rows_are_drawn_by_the_seed(folder):
    asked = {"prompt": "q", "expected": "a", "rows": 20}
    first, again, other = (load(folder, "many", **asked, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.raw != other.raw
    ids = [int(one.id.removeprefix("test-")) for one in first.questions]
    assert ids == sorted(ids)
    # Not the first ones: many data sets are sorted.
    assert len(ids) == 20
    assert max(ids) > 250
    assert [one.expected for one in first.questions] == [str(n) for n in ids]


def test_no_code_of_a_data_set_is_run(tmp_path):
    home = tmp_path / "evil"
    home.mkdir()
    (home / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(9)")
    with pytest.raises(QuestionSetError):
        load(tmp_path, "evil", **SST2)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_parquet_that_is_none(tmp_path, raw):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "test.parquet").write_bytes(raw)
    with pytest.raises(QuestionSetError, match="cannot be read"):
        load(tmp_path, "broken", **SST2)


def test_caps(folder, monkeypatch):
    asked = {"prompt": "q", "expected": "a"}
    for cap, value, message in (
        ("MAX_DATASET_BYTES", 100, "more than 100 bytes"),
        ("MAX_QUESTIONS", 499, "500 rows, more than 499"),
        ("MAX_QUESTION_SET_BYTES", 1000, "questions have more than 1,000 bytes"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(dataset_questions, cap, value)
            with pytest.raises(QuestionSetError, match=message):
                load(folder, "many", **asked)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf://datasets/?split=a", "names no data set"),
        ("hf://datasets/a/b/c?split=a", "names no data set"),
        ("hf://datasets/../x?split=a", "names no data set"),
        ("hf://datasets/a@?split=a", "names no data set"),
        ("dataset:?split=a", "names no directory"),
        ("hf://datasets/a", "split is missing"),
        ("hf://datasets/a?split", "cannot be read"),
        ("hf://datasets/a?prompt=p&expected=e", "split is missing"),
        ("hf://datasets/a?split=s&prompt=&expected=e", "prompt is missing"),
        ("hf://datasets/a?split=s&prompt=p&expected=e&split=t", "split of the data set stands"),
        ("hf://datasets/a?split=s&prompt=p&expected=e&trust_remote_code=1", "no parameter"),
        ("hf://datasets/a?split=s&prompt=p&expected=e&rows=0", "no number from 1"),
        ("hf://datasets/a?split=s&prompt=p&expected=e&rows=١", "no number"),
        ("hf://datasets/a?split=s&prompt=p&expected=e&seed=-1", "no number from 0"),
    ],
)
def test_names_that_are_none(text, message):
    assert is_dataset_name(text)
    with pytest.raises(UsageError, match=message):
        parse_dataset_name(text)


@given(st.text(), st.sampled_from(["hf://datasets/", "dataset:"]))
def test_any_text_is_a_name_or_refused(text, prefix):
    try:
        name = parse_dataset_name(prefix + text)
    except UsageError:
        return
    assert parse_dataset_name(name.text("0" * 40)).prompt == name.prompt


CHILD = """
import json, sys
from r1prov.endpoints.dataset_name import parse_dataset_name
from r1prov.endpoints.dataset_questions import load_dataset_questions
from r1prov.errors import R1ProvError
for text in sys.argv[1:]:
    try:
        found = load_dataset_questions(parse_dataset_name(text))
    except R1ProvError as error:
        print(json.dumps([type(error).__name__, error.message, error.hint]))
    else:
        print(json.dumps([found.source, found.raw.decode(), ""]))
"""


def test_a_data_set_of_the_hub_is_pinned_to_a_commit(folder, tmp_path):
    query = urlencode(SST2)
    with running_hub(tmp_path / "hub") as hub:
        served = hub.add("datasets/acme/sst2", folder / "sst2", lfs=(".parquet",))

        def child(*names, **more):
            environment = {
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **more,
            }
            command = [sys.executable, "-c", CHILD, *(f"hf://datasets/{one}" for one in names)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=60, check=True
            )
            return [json.loads(line) for line in done.stdout.splitlines()]

        names = (f"acme/sst2?{query}", f"acme/none?{query}", f"acme/sst2@v9?{query}")
        found, none, no_branch = child(*names)
        here = load(folder, "sst2", **SST2)
        assert found[:2] == [
            f"hf://datasets/acme/sst2@{served.commit}?{query}",
            here.raw.decode(),
        ]
        assert none[0] == no_branch[0] == "NotFound"
        # Offline it is the same from the cache, and never another commit in its place.
        offline = {"HF_HUB_OFFLINE": "1"}
        pinned, unpinned, wrong, branch = child(
            f"acme/sst2@{served.commit}?{query}",
            f"acme/sst2?{query}",
            f"acme/sst2@{'0' * 40}?{query}",
            f"acme/sst2@main?{query}",
            **offline,
        )
        assert pinned == unpinned == found
        assert wrong[0] == "QuestionSetError"
        assert f"the cache holds commit {served.commit}" in wrong[1]
        assert branch[0] == "UsageError"
        hub.fault("/api/datasets/", times=99, status=503)
        (down,) = child(f"acme/sst2?{query}", HF_HOME=str(tmp_path / "empty"))
        assert down[0] == "Unreadable"


def test_the_report_names_the_data_set_and_the_digest_of_the_questions(
    folder, tmp_path, monkeypatch, start
):
    from persona_server import KEY

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    url = start("honest-r1").url
    name = f"dataset:{folder / 'sst2'}?{urlencode(SST2)}"
    asked = ["--questions", name, "--question-tokens", "64", "--quiet", "--no-parameters"]
    short = ["--streams", "2", "--stream-tokens", "100"]
    form = ["--format", "json", "-o", "report.json"]
    run(["endpoint", "audit", url, *asked, *short, *form])
    report = json.loads(Path("report.json").read_text())
    digest = hashlib.sha256(load(folder, "sst2", **SST2).raw).hexdigest()
    assert report["sides"][-1] == {
        "role": "questions",
        "name": name,
        "model": "",
        "detail": f"4 questions, SHA-256 {digest}",
    }
    (questions,) = (one for one in report["results"] if one["name"] == "questions")
    assert questions["samples"] == 4


def test_without_the_library_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError) as caught:
        load(folder, "sst2", **SST2)
    assert caught.value.hint == "install r1prov[datasets]"


def test_a_library_that_would_run_code_is_not_used(folder, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(UsageError, match="may run code"):
        load(folder, "sst2", **SST2)
