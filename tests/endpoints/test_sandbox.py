"""Code that would do harm, in the real sandbox; outside of it, it does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from r1prov.endpoints import sandbox as module
from r1prov.endpoints.question_set import code_of, parse_question_set, require_scorers, score
from r1prov.endpoints.sandbox import Sandbox, sandbox
from r1prov.endpoints.seccomp import refusing_filter
from r1prov.errors import UsageError

SECRET = "R1PROV_API_KEY"


@pytest.fixture(autouse=True)
def on_path(bubblewrap, monkeypatch):
    monkeypatch.setenv("PATH", str(bubblewrap.parent), prepend=os.pathsep)
    sandbox.cache_clear()


@pytest.fixture(scope="module")
def listener():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# Debian's interpreter has its packages elsewhere.
LISTS = "import os; assert os.listdir(os.path.dirname(os.__file__) + '/site-packages')"
HAS_PACKAGES = (Path(os.__file__).parent / "site-packages").is_dir()
PACKAGES = {"lists packages": LISTS} if HAS_PACKAGES else {}
# Each runs to its end where it gets through.
ESCAPES = {
    "reads a file of the machine": "assert 'root' in open('/etc/passwd').read()",
    "reads the code of r1prov": "assert open({module!r}).read()",
    "lists the machine": "import os; assert os.listdir('/etc'); os.listdir('/proc/1')",
    "reads a key in the environment": "import os; assert os.environ['R1PROV_API_KEY']",
    "reads the environment of its parent": "assert open('/proc/self/environ').read()",
    "connects": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "makes a socket": "import socket; socket.socket()",
    "writes a file": "open('{folder}/made', 'w').write('x')",
    "writes anywhere": (
        "import os\n"
        "home = os.path.dirname(os.__file__)\n"
        "for path in ('{folder}', '', '/tmp', '/dev/shm', '/python', '/usr/lib', home):\n"
        "    try: open(path + '/made', 'w').close(); break\n"
        "    except OSError: pass\n"
        "else: raise SystemExit(1)"
    ),
    "signals its parent": "import os; os.kill(os.getppid(), 0)",
    "starts a process": "import os; os.fork() or os._exit(0)",
    "starts a program": "import subprocess as s, sys; s.run([sys.executable, '-V'], check=True)",
    "starts a thread": "import threading; t = threading.Thread(target=int); t.start(); t.join()",
    "takes memory": "x = bytearray(600 * 1024 * 1024)",
    "raises its limits": (
        "import resource as r\n"
        "r.setrlimit(r.RLIMIT_AS, (700 << 20, 700 << 20)); x = bytearray(600 << 20)"
    ),
    "imports a package": "import sys; sys.path += {packages!r}; import r1prov, numpy",
    **PACKAGES,
    "asks for a user namespace": (
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0"
    ),
}


@pytest.mark.parametrize("what", ESCAPES)
def test_nothing_gets_through_that_does_outside(what, listener, tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET, "sk-of-the-user")
    packages = [path for path in sys.path if path]
    code = ESCAPES[what].format(
        port=listener, folder=tmp_path, module=module.__file__, packages=packages
    )
    outside = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=30, check=False)
    assert outside.returncode == 0
    (tmp_path / "made").unlink(missing_ok=True)
    assert not sandbox().run(code)
    assert list(tmp_path.iterdir()) == []


def none_left():
    """Whether every process of a sandbox ends soon; the kernel kills them one after the other."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        if not any(line.startswith("/python/bin/python") for line in done.stdout.splitlines()):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(99)",
        "while True: print('x' * 10_000)",
        "import sys\nwhile True: sys.stderr.write('x' * 10_000)",
        "import os; os.close(1); os.close(2)\nwhile True: pass",
        "x = []\nwhile True: x.append('x' * 1_000_000)",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "def f(n): return f(n + 1)\nimport sys; sys.setrecursionlimit(10**9); f(0)",
    ],
)
def test_what_never_ends_or_takes_all_is_ended(code):
    box = sandbox()
    began = time.monotonic()
    assert not box.run(code, seconds=1)
    assert time.monotonic() - began < 5
    assert none_left()


def test_who_prints_too_much_is_ended_before_the_time_is_up():
    began = time.monotonic()
    assert not sandbox().run("while True: print('x' * 10_000)", seconds=60)
    assert time.monotonic() - began < 20


def test_several_at_once_end_too():
    box = sandbox()
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(box.run("while True: pass", seconds=1)))
        for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert outcomes == [False] * 4
    assert none_left()


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "raise SystemExit",
        "import sys; sys.exit(0)",
        "print('passed'); quit = exit = None; raise SystemExit(0)",
        "assert False",
        "not python",
        "x = '\x00'",
        "pass  #" + "x" * (1 << 20),
        "import os; os.abort()",
    ],
)
def test_to_end_early_is_not_to_pass(code):
    assert not sandbox().run(code)


def test_what_tests_of_code_need_is_there():
    assert sandbox().run(
        "import bisect, collections, copy, dataclasses, datetime, decimal, fractions, functools\n"
        "import hashlib, heapq, itertools, json, math, operator, random, re, statistics, string\n"
        "import typing, unicodedata, zlib\n"
        "print('noise', flush=True)\n"
        "assert __name__ != '__main__' and hashlib.sha256(b'').hexdigest()[:4] == 'e3b0'\n"
        "assert '\u4e2d'.encode() == b'\\xe4\\xb8\\xad'\n"
        "def deep(n): return n and deep(n - 1)\n"
        "deep(900)"
    )


TESTS = "def check(f):\n    assert f([3, 1]) == [1, 3]\n    assert f([]) == []\ncheck(order)"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("```python\ndef order(x):\n    return sorted(x)\n```", True),
        (
            "Here:\n```\ndef order(x): return sorted(x)\n```\nUse it:\n```python\norder([1])\n```",
            True,
        ),
        ("def order(x):\n    return sorted(x)", True),
        ("1. So:\n   ```py\n   def order(x):\n       return sorted(x)\n   ```", True),
        ("```python\ndef order(x): return x\n```\nBetter:\n```python\norder = sorted\n```", False),
        (
            "```python\ndef order(x): return x\n```\nNo:\n"
            "```python\ndef order(x): return sorted(x)\n```",
            True,
        ),
        ("```python\ndef order(x): return x\n```", False),
        ("```python\ndef order(x):\n    return sor", False),
        ("```python\ndef order(x):\n    return sorted(x)", True),
        ("I cannot write code.", False),
        ("```python\ndef order(x): return sorted(x)\nimport os; os._exit(0)\n```", False),
        ("", False),
    ],
)
def test_the_scorer_runs_the_tests_behind_the_answer(answer, right):
    raw = b'{"prompt": "Write order(x).", "expected": %s, "scorer": "code"}'
    (question,) = parse_question_set(raw % json.dumps(TESTS).encode(), subject="q.jsonl")
    assert score(question, answer) is right


def test_the_code_of_an_answer():
    assert code_of("a\n```python\nx = 1\n```\nb") == "x = 1\n"
    assert code_of("```js\nfoo\n```") == "```js\nfoo\n```"


def test_without_bubblewrap_nothing_is_asked_and_nothing_runs(monkeypatch, tmp_path):
    raw = b'{"prompt": "p", "expected": "assert f() == 1", "scorer": "code"}'
    (question,) = parse_question_set(raw, subject="q.jsonl")
    require_scorers([question])
    sandbox.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    for use in (lambda: require_scorers([question]), lambda: score(question, "def f(): return 1")):
        with pytest.raises(UsageError, match="`bwrap` is not there") as caught:
            use()
        assert "install bubblewrap" in str(caught.value.hint)


@pytest.mark.parametrize("script", ["echo no namespaces >&2; exit 1", "exit 0", "exec cat"])
def test_a_sandbox_that_does_not_work_is_not_used(monkeypatch, tmp_path, script):
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UsageError, match="bubblewrap does not work here"):
        sandbox()


def test_the_filter_alone_refuses(bubblewrap):
    """Without it the first wall stands alone: a socket can be made, if not connected."""
    box = Sandbox(str(bubblewrap))
    code = "import socket; socket.socket()"
    assert not box.run(code)
    # BPF_RET with SECCOMP_RET_ALLOW.
    box._filter = b"\x06\x00\x00\x00\x00\x00\xff\x7f"
    assert box.run(code)
    with pytest.raises(UsageError, match="filter of system calls for riscv64"):
        refusing_filter("riscv64")
