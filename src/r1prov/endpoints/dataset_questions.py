"""Test sets out of data sets of the Hugging Face Hub, or of a directory, by the library `datasets`.

The revision is pinned to a commit before anything is read, no code of a data set is run, and what
is asked is written out as a file of questions would be: its SHA-256 stands in reports.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1prov.endpoints.dataset_name import CHOICES, DatasetName, filled, slots
from r1prov.endpoints.question_set import Question, parse_question_set
from r1prov.errors import NotFound, QuestionSetError, R1ProvError, Unreadable, UsageError
from r1prov.limits import MAX_DATASET_BYTES, MAX_QUESTION_SET_BYTES, MAX_QUESTIONS
from r1prov.text import quoted

if TYPE_CHECKING:
    import datasets

# From this one on the library runs no code of a data set.
_LEAST_MAJOR = 4
_LETTERS = "ABCDEFGHIJ"
_HIDDEN = -1
_HIDDEN_HINT = (
    "labels that are not published stand there as -1: the test split of GLUE SST-2 has no other; "
    "take a split with labels, such as validation"
)
_DEFAULT_CHOICE = "\n\n{choices}\n\nAnswer with the letter of the right option."


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetQuestions:
    """Questions of a data set.

    Attributes:
        questions: They.
        raw: The same as JSON lines, as a file of questions has them.
        source: What they are of, with the commit.
    """

    questions: tuple[Question, ...]
    raw: bytes
    source: str


def load_dataset_questions(name: DatasetName) -> DatasetQuestions:
    """Fetch a data set, from the Hub or a directory, and make questions of its rows.

    The library keeps what it fetches in its own cache, and asks where `HF_ENDPOINT` says.

    Raises:
        UsageError: The library is missing or too old, or a column is not there.
        NotFound: There is no such data set, configuration or split.
        Unreadable: The Hub cannot be reached.
        QuestionSetError: What is there makes no questions.
    """
    _library()
    with _split(name) as (rows, commit):
        columns = _columns(rows, name)
        raw = b"".join(_lines(rows, columns, name))
    questions = parse_question_set(raw, subject=quoted(name.name))
    return DatasetQuestions(questions=questions, raw=raw, source=name.text(commit))


def _library() -> None:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "data sets need the package `datasets`", hint="install r1prov[datasets]"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < _LEAST_MAJOR:
        raise UsageError(
            f"datasets {datasets.__version__} may run code of a data set",
            hint=f"install r1prov[datasets]: {_LEAST_MAJOR} or later",
        )


@contextmanager
def _split(name: DatasetName) -> Iterator[tuple[datasets.Dataset, str | None]]:
    """The rows of a split, and the commit that they are of."""
    import datasets

    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as folder:
            if name.local and not Path(name.name).is_dir():
                raise NotFound(f"there is no directory {name.name}", subject=name.name)
            with _as_ours(name):
                commit = None if name.local else _commit(name)
                builder = datasets.load_dataset_builder(
                    str(Path(name.name).absolute()) if name.local else name.name,
                    name=name.config,
                    revision=commit,
                    # A directory may change under a cache that knows it by its name.
                    cache_dir=folder if name.local else None,
                )
                _check_size(builder, name)
                commit = None if name.local else _same_commit(builder, commit, name)
                builder.download_and_prepare()
                if name.split not in builder.info.splits:
                    there = ", ".join(quoted(one) for one in builder.info.splits)
                    raise NotFound(
                        f"there is no split {quoted(name.split)}",
                        subject=name.name,
                        hint=f"there are {there}",
                    )
                rows = builder.as_dataset(split=name.split)
            yield rows, commit
    finally:
        if bars:
            datasets.enable_progress_bars()


def _commit(name: DatasetName) -> str | None:
    """The commit of the revision; None where nobody can be asked and the cache has to say.

    A Hub that cannot be reached leaves what the cache holds: of which commit that is, is known
    (`_same_commit`), but not what a branch points at.
    """
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    if name.commit is not None:
        return name.commit
    try:
        info = huggingface_hub.HfApi().dataset_info(name.name, revision=name.revision)
    except OfflineModeIsEnabled as error:
        if name.revision is None:
            return None
        raise UsageError(
            f"offline nobody says which commit {quoted(name.revision)} is",
            subject=name.name,
            hint="name the commit: hf://datasets/OWNER/NAME@COMMIT?…",
        ) from error
    return str(info.sha)


def _same_commit(
    builder: datasets.DatasetBuilder, commit: str | None, name: DatasetName
) -> str | None:
    """The commit that was taken: offline the library takes the latest that its cache has."""
    found = str(builder.hash)
    if commit is not None and found != commit:
        raise QuestionSetError(
            f"the cache holds commit {found}, and {commit} was asked for",
            subject=name.name,
            hint="go online once, or name the commit that is there",
        )
    return found


def _check_size(builder: datasets.DatasetBuilder, name: DatasetName) -> None:
    """What is to be fetched or read is no corpus: test sets have some megabytes."""
    from huggingface_hub import HfFileSystem

    files = [one for part in (builder.config.data_files or {}).values() for one in part]
    size = 0
    for one in files:
        path = str(one)
        if path.startswith("hf://"):
            size += HfFileSystem().info(path)["size"] or 0
        elif "://" not in path:
            size += Path(path).stat().st_size
        else:
            raise QuestionSetError(
                f"a file of it is elsewhere: {quoted(path)}", subject=name.name, hint="download it"
            )
        if size > MAX_DATASET_BYTES:
            raise QuestionSetError(
                f"its files have more than {MAX_DATASET_BYTES:,} bytes",
                subject=name.name,
                hint="write the questions that you need into a file of JSON lines",
            )


@contextmanager
def _as_ours(name: DatasetName) -> Iterator[None]:
    """Whatever the libraries raise, as an error of ours."""
    try:
        yield
    except R1ProvError:
        raise
    except Exception as error:  # whatever the libraries raise
        text = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        kinds = {one.__name__ for one in type(error).__mro__}
        if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
            raise NotFound(
                f"there is no such data set or revision: {text}",
                subject=name.name,
                hint="one that is gated or private needs HF_TOKEN",
            ) from error
        if kinds & {"ConnectionError", "HTTPError", "HfHubHTTPError", "TransportError"}:
            raise Unreadable(
                f"the Hub did not give the data set: {text}",
                subject=name.name,
                hint="try again, or name a directory: dataset:DIRECTORY?…",
            ) from error
        raise QuestionSetError(
            f"the data set cannot be read: {text}",
            subject=name.name,
            hint="config=NAME names a configuration; formats with code of their own are not read",
        ) from error


def _columns(rows: datasets.Dataset, name: DatasetName) -> tuple[str, ...]:
    """The columns that are needed, all of which hold text, numbers or lists of these."""
    import datasets

    features = rows.features
    there = tuple(features)
    needed = {*slots(name.prompt, there), *slots(name.expected, there)} - ({CHOICES} - set(there))
    if name.choices is not None:
        needed.add(slots(name.choices, there)[0])
    for column in sorted(needed):
        feature = features[column]
        inner = feature.feature if isinstance(feature, datasets.List) else feature
        if not isinstance(inner, (datasets.Value, datasets.ClassLabel)):
            raise QuestionSetError(
                f"the column {quoted(column)} holds neither text nor numbers", subject=name.name
            )
    if rows.num_rows > MAX_QUESTIONS and (name.rows is None or name.rows > MAX_QUESTIONS):
        raise QuestionSetError(
            f"the split has {rows.num_rows:,} rows, more than {MAX_QUESTIONS:,}",
            subject=name.name,
            hint="rows=N draws some of them",
        )
    return tuple(sorted(needed))


def _lines(rows: datasets.Dataset, columns: Sequence[str], name: DatasetName) -> Iterator[bytes]:
    """A question a row, as JSON; which rows, the seed says.

    Raises:
        QuestionSetError: A row is none, or all of them are more than a file may have.
    """
    labels = _labels(rows, name)
    _check_labels(rows, name, named=labels is not None)
    scorer = name.scorer or ("exact" if labels is None and name.choices is None else "choice")
    places = range(rows.num_rows)
    if name.rows is not None and name.rows < len(places):
        draw = random.Random(name.seed)  # noqa: S311 - a sample, no secret
        places = sorted(draw.sample(places, name.rows))  # type: ignore[assignment]
    chosen = rows.select_columns(list(columns)).select(places)
    total = 0
    for place, row in zip(places, chosen, strict=True):
        where = f"{name.name} {name.split} row {place}"
        line = json.dumps(_question(row, place, where, labels, scorer, rows, name)).encode() + b"\n"
        total += len(line)
        if total > MAX_QUESTION_SET_BYTES:
            raise QuestionSetError(
                f"the questions have more than {MAX_QUESTION_SET_BYTES:,} bytes",
                subject=name.name,
                hint="rows=N draws some of them",
            )
        yield line


def _question(
    row: Mapping[str, Any],
    place: int,
    where: str,
    labels: Sequence[str] | None,
    scorer: str,
    rows: datasets.Dataset,
    name: DatasetName,
) -> dict[str, str]:
    texts = {column: _text(row[column], rows.features[column], where) for column in row}
    options = labels
    if name.choices is not None:
        options = [str(one) for one in row[name.choices] or ()]
    prompt = name.prompt
    if options is not None and scorer == "choice":
        if not 2 <= len(options) <= len(_LETTERS):
            raise QuestionSetError(
                f"{len(options)} options cannot be lettered", subject=where, hint="2 to 10 can"
            )
        # Also where the column is called so: lettered is what is wanted.
        texts[CHOICES] = "\n".join(f"{a}) {b}" for a, b in zip(_LETTERS, options, strict=False))
        if prompt in rows.features:
            prompt = f"{{{prompt}}}{_DEFAULT_CHOICE}"
        expected = _letter(row, options, where, name)
    else:
        expected = filled(name.expected, texts)
    if CHOICES in slots(prompt, tuple(rows.features)) and CHOICES not in texts:
        raise UsageError("{choices} needs labels with names, or choices=COLUMN", subject=name.name)
    return {
        "id": f"{name.split}-{place}",
        "prompt": filled(prompt, texts),
        "expected": expected,
        "scorer": scorer,
    }


def _letter(row: Mapping[str, Any], options: Sequence[str], where: str, name: DatasetName) -> str:
    """The letter of the right option: a label, an index, a letter, or the option itself."""
    value = row.get(name.expected)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
        return _LETTERS[value]
    if isinstance(value, str):
        if value in options:
            return _LETTERS[list(options).index(value)]
        if value.strip().upper() in tuple(_LETTERS[: len(options)]):
            return value.strip().upper()
    raise QuestionSetError(
        f"{quoted(str(value))} is none of {len(options)} options",
        subject=where,
        hint="expected names a column with a label, an index from 0, a letter or the option",
    )


def _labels(rows: datasets.Dataset, name: DatasetName) -> list[str] | None:
    """The names of labels, where the right answer is one."""
    import datasets

    feature = rows.features.get(name.expected)
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    return None


def _check_labels(rows: datasets.Dataset, name: DatasetName, *, named: bool) -> None:
    """Labels are there: a split whose labels are hidden makes every answer wrong."""
    for column in slots(name.expected, tuple(rows.features)):
        values = rows.select_columns([column])[:][column]
        hidden = sum(one is None or (type(one) is int and one == _HIDDEN) for one in values)
        if values and hidden == len(values):
            raise QuestionSetError(
                f"the split {quoted(name.split)} has no labels: {quoted(column)} is "
                f"{'nothing' if values[0] is None else values[0]} in all {len(values):,} rows",
                subject=name.name,
                hint=_HIDDEN_HINT,
            )
        missing = sum(one is None or (named and one == _HIDDEN) for one in values)
        if missing:
            raise QuestionSetError(
                f"{missing:,} of {len(values):,} rows have no {quoted(column)}",
                subject=name.name,
                hint="write the others into a file of JSON lines",
            )


def _text(value: object, feature: object, where: str) -> str:
    """A value as it stands in a prompt: the name of a label, and a line for each of a list."""
    import datasets

    if isinstance(feature, datasets.List):
        values = value if isinstance(value, list) else []
        return "\n".join(_text(one, feature.feature, where) for one in values)
    if isinstance(feature, datasets.ClassLabel) and type(value) is int:
        return str(feature.int2str(value))
    if isinstance(value, (str, int, float)):
        return str(value)
    raise QuestionSetError("a value of it is missing", subject=where)
