import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import ExchangeError, NotFound, Unreadable, UsageError
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.log_check import check_log, read_entry, read_records
from r1prov.responses.log_record import Head, is_log, rotated_files
from r1prov.responses.redaction import Content, RedactionRules

KEY = "sk-0123456789abcdef"


def exchange(number=0, size=10):
    return Exchange(
        request=Request(
            method="POST",
            url=f"https://h/{number}",
            headers=(("Authorization", f"Bearer {KEY}"),),
            body=b"x" * size,
        ),
        response=Response(status=200, headers=(), body=b"y" * size),
    )


def log_at(path, **how):
    return ExchangeLog(path / "log.jsonl", fsync=Fsync.NEVER, **how)


def numbers(path):
    return [
        int(one.value["request"]["url"].rpartition("/")[2])
        for one in read_records(path)
        if one.kind == "exchange"
    ]


def test_what_is_appended_comes_back_in_a_chain(tmp_path):
    log = log_at(tmp_path)
    heads = [log.append(exchange(number)).head for number in range(3)]
    assert [one.number for one in heads] == [1, 2, 3]
    assert numbers(log.path) == [0, 1, 2]
    check = check_log(log.path, noted=(heads[0], heads[2]))
    assert check.problem is None
    assert (check.records, check.exchanges, check.head, check.torn) == (4, 3, heads[2], 0)
    assert log.head() == heads[2]
    assert read_entry(log.path, 2).request.url == "https://h/1"
    assert os.stat(log.path).st_mode & 0o777 == 0o600


def test_the_lines_are_the_documented_ones(tmp_path):
    """The chain can be checked with nothing but a JSON reader and SHA-256."""
    import hashlib

    log = log_at(tmp_path)
    log.append(exchange())
    previous = "0" * 64
    for number, line in enumerate(log.path.read_bytes().splitlines()):
        value = json.loads(line)
        assert list(value)[:4] == ["digest", "previous", "n", "at"]
        assert (value["n"], value["previous"]) == (number, previous)
        assert hashlib.sha256(b"{" + line[77:]).hexdigest() == value["digest"]
        previous = value["digest"]
    assert value["exchange"]["schema"] == "r1prov/exchange/1"


def test_secrets_never_reach_the_file(tmp_path):
    log = log_at(tmp_path, rules=RedactionRules(content=Content.DIGEST))
    made = log.append(exchange())
    assert KEY.encode() not in log.path.read_bytes()
    assert {one.part for one in made.openings} == {"request.body", "response.body"}
    for one in made.openings:
        assert one.salt.hex().encode() not in log.path.read_bytes()


def test_an_exchange_that_cannot_be_written_leaves_no_trace(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange())
    before = log.path.read_bytes()
    broken = Exchange(
        request=Request(method="P T", url="https://h", headers=(), body=b""),
        response=exchange().response,
    )
    with pytest.raises(ExchangeError):
        log.append(broken)
    assert log.path.read_bytes() == before


def test_a_torn_line_is_taken_away_and_that_is_recorded(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange(1))
    whole = log.path.read_bytes()
    log.append(exchange(2))
    torn = log.path.read_bytes()[len(whole) : -5]
    log.path.write_bytes(whole + torn)

    check = check_log(log.path)
    assert (check.problem, check.torn, check.exchanges) == (None, len(torn), 1)
    log.append(exchange(3))
    check = check_log(log.path)
    assert (check.problem, check.torn, check.exchanges, check.recovered) == (None, 0, 2, 1)
    assert numbers(log.path) == [1, 3]
    (recovered,) = (one for one in read_records(log.path) if one.kind == "recovered")
    assert recovered.value["bytes"] == len(torn)


def test_every_cut_of_the_last_line_is_recovered(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange(1, size=1))
    keep = len(log.path.read_bytes())
    log.append(exchange(2, size=1))
    data = log.path.read_bytes()
    for end in range(keep, len(data)):
        log.path.write_bytes(data[:end])
        assert log.append(exchange(3, size=1)).head.number == 2 + (end != keep)
        assert numbers(log.path) == [1, 3]
        assert check_log(log.path).problem is None


def test_a_torn_first_line_is_begun_anew(tmp_path):
    log = log_at(tmp_path)
    for start in (b"", b'{"digest":"', b"\0" * 100):
        log.path.write_bytes(start)
        log.append(exchange(7))
        assert numbers(log.path) == [7]


def test_a_file_of_something_else_is_left_alone(tmp_path):
    for content in (b"hello\n", b"{}\n", b'{"digest":"x"}\nfoo'):
        log = log_at(tmp_path)
        log.path.write_bytes(content)
        with pytest.raises(ExchangeError, match="no record of an exchange log"):
            log.append(exchange())
        assert log.path.read_bytes() == content


def test_a_damaged_last_record_stops_the_log(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange())
    data = log.path.read_bytes().replace(b'"status":200', b'"status":201')
    log.path.write_bytes(data)
    with pytest.raises(ExchangeError, match="was changed") as caught:
        log.append(exchange())
    assert "begin another" in caught.value.hint
    assert log.path.read_bytes() == data


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    log = log_at(tmp_path_factory.mktemp("sample"))
    for number in range(3):
        log.append(exchange(number, size=2))
    return log.path.read_bytes(), log.head()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_changed_byte_shows(sample, tmp_path_factory, data):
    raw, head = sample
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != raw[at]))
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_bytes(raw[:at] + bytes([byte]) + raw[at + 1 :])
    check = check_log(path, noted=(head,))
    assert check.problem is not None


def lines(raw):
    return raw.splitlines(keepends=True)


EDITS = {
    "a record taken away": lambda one: [one[0], one[1], one[3]],
    "a record twice": lambda one: [*one[:2], one[1], *one[2:]],
    "records swapped": lambda one: [one[0], one[2], one[1], one[3]],
    "the beginning taken away": lambda one: one[1:],
    "the end taken away": lambda one: one[:-1],
    "nothing left": lambda one: [],
}


@pytest.mark.parametrize("edit", EDITS)
def test_records_that_are_moved_or_gone_show(sample, tmp_path, edit):
    raw, head = sample
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(EDITS[edit](lines(raw))))
    check = check_log(path, noted=(head,))
    assert check.problem is not None
    if edit in ("the end taken away", "nothing left"):
        # Nothing in the file itself shows that: this is what heads are noted for.
        assert check_log(path).problem is None
        assert "not there any more" in check.problem


def test_a_log_that_was_written_anew_is_not_the_noted_one(sample, tmp_path):
    _, head = sample
    log = log_at(tmp_path)
    for number in range(4):
        log.append(exchange(number + 5))
    assert check_log(log.path).problem is None
    assert "is not the one that was noted" in check_log(log.path, noted=(head,)).problem


def test_a_record_with_a_right_digest_and_a_wrong_exchange_shows(tmp_path):
    import hashlib

    log = log_at(tmp_path)
    log.append(exchange())
    first, second = lines(log.path.read_bytes())
    for old, new in ((b'"status":200', b'"status":20'), (b'"n":1', b'"n":2')):
        rest = second[77:-1].replace(old, new)
        digest = hashlib.sha256(b"{" + rest).hexdigest().encode()
        log.path.write_bytes(first + b'{"digest":"' + digest + b'",' + rest + b"\n")
        assert check_log(log.path).problem is not None


def test_files_are_rotated_and_the_chain_goes_on(tmp_path):
    log = log_at(tmp_path, max_bytes=2000)
    for number in range(30):
        log.append(exchange(number))
    files = rotated_files(log.path)
    assert len(files) >= 3
    assert [one.name for one in files[:2]] == ["log.jsonl.1", "log.jsonl.2"]
    assert numbers(log.path) == list(range(30))
    check = check_log(log.path)
    assert (check.problem, check.files) == (None, len(files) + 1)

    os.rename(log.path, tmp_path / "kept")  # as a writer leaves it that dies while it rotates
    left = numbers(log.path)
    assert left == list(range(len(left)))
    assert 20 < len(left) < 30
    os.rename(tmp_path / "kept", log.path)
    os.unlink(files[1])
    assert "does not follow" in check_log(log.path).problem


def test_a_rotation_that_was_interrupted_is_gone_on_with(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange(1))
    os.rename(log.path, f"{log.path}.1")
    assert numbers(log.path) == [1]
    log.append(exchange(2))
    assert numbers(log.path) == [1, 2]
    assert check_log(log.path).problem is None


def test_threads_append_one_after_another(tmp_path):
    log = log_at(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [log.append(exchange(n)) for _ in range(10)])
        for n in range(5)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert check_log(log.path).problem is None
    assert sorted(numbers(log.path)) == sorted(list(range(5)) * 10)


WRITER = """
import sys
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog, Fsync
log = ExchangeLog(sys.argv[1], fsync=Fsync.NEVER, max_bytes=50_000)
for _ in range(40):
    log.append(Exchange(
        request=Request(method="GET", url="https://h/" + sys.argv[2], headers=(), body=b"x" * 500),
        response=Response(status=200, headers=(), body=b""),
    ))
"""


def test_processes_append_one_after_another(tmp_path):
    path = tmp_path / "log.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)])
        for number in range(3)
    ]
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    assert sorted(numbers(path)) == sorted([0, 1, 2] * 40)
    assert rotated_files(path)
    assert check_log(path).problem is None


def test_a_full_disk_leaves_a_whole_log(tmp_path):
    log = log_at(tmp_path)
    log.append(exchange(1))
    script = f"""
import resource, signal
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = Path({str(log.path)!r}).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, size + 300))
from r1prov.errors import Unreadable
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog
try:
    ExchangeLog({str(log.path)!r}).append(Exchange(
        request=Request(method="GET", url="https://h/2", headers=(), body=b"x" * 5000),
        response=Response(status=200, headers=(), body=b""),
    ))
except Unreadable as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "cannot write the log" in done.stdout
    check = check_log(log.path)
    assert (check.problem, check.torn, check.exchanges) == (None, 0, 1)
    log.append(exchange(2))
    assert check_log(log.path).recovered == 0


def test_places_where_no_log_can_be(tmp_path):
    for path in (tmp_path / "none" / "log", tmp_path):
        with pytest.raises(Unreadable, match="cannot write the log"):
            ExchangeLog(path).append(exchange())
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(Unreadable):
        ExchangeLog(tmp_path / "link").append(exchange())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((Unreadable, ExchangeError)):
        ExchangeLog(tmp_path / "pipe").append(exchange())
    with pytest.raises(NotFound):
        check_log(tmp_path / "nothing")
    assert not is_log(tmp_path / "nothing")


def test_heads_are_written_and_read():
    head = Head(12, "ab" * 32)
    assert Head.parse(str(head)) == head
    for wrong in ("", "12", "12:ab", f"012:{'ab' * 32}", f"1:{'AB' * 32}", f"1:{'ab' * 32}\n"):
        with pytest.raises(UsageError):
            Head.parse(wrong)
