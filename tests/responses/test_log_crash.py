"""A process that records real exchanges is killed many times, and the log holds all but the last.

Two recorders at once write into one log, so that one is killed while the other goes on.
"""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from scripted_server import serve

from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog
from r1prov.responses.log_check import check_log, read_records

ROUNDS = 12
# Imports once; each line of its input is a worker, a process of its own.
RECORDER = """
import os, sys
import httpx2
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.transport_httpx2 import RecordingTransport

def work(first):
    log = ExchangeLog(sys.argv[2], fsync=Fsync.NEVER, max_bytes=1_000_000)
    with httpx2.Client(transport=RecordingTransport(log), trust_env=False) as client:
        for number in range(first, first + 10_000):
            body = {"model": "r1+unsigned", "number": number, "pad": "x" * 60_000}
            client.post(sys.argv[1] + "/chat/completions", json=body)
            os.write(1, b"ack %d\\n" % number)

for line in sys.stdin:
    if (child := os.fork()) == 0:
        try:
            work(int(line))
        finally:
            os._exit(1)
    os.write(1, b"pid %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


def numbers(path):
    found = []
    for record in read_records(path):
        if record.kind == "exchange":
            body = record.value["request"]["body"]["base64"]
            found.append(json.loads(base64.b64decode(body))["number"])
    return found


class Worker:
    """A recorder that is started and killed again and again."""

    def __init__(self, base_url, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", RECORDER, base_url, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.acknowledged = []

    def round(self, first, chance):
        """Let it record a few exchanges, and kill it in the middle of another."""
        process = self.process
        process.stdin.write(f"{first}\n")
        process.stdin.flush()
        child, wanted = None, chance.randrange(1, 4)
        for line in process.stdout:
            word, *rest = line.split()
            if word == "dead":
                return
            if word == "pid":
                child = int(rest[0])
            else:
                self.acknowledged.append(int(rest[0]))
                wanted -= 1
            if child is not None and wanted <= 0:
                # Anywhere between sending the next request and having written it.
                threading.Event().wait(chance.random() * 0.01)
                os.kill(child, signal.SIGKILL)
                wanted = 1_000_000
        pytest.fail("the recorder ended by itself")

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


def test_kill_9_loses_at_most_the_exchange_in_flight(tmp_path):
    path = tmp_path / "log.jsonl"
    chance = random.Random(5)
    with serve() as server:
        workers = [Worker(server.base_url, path) for _ in range(2)]
        try:
            heads = []
            for number in range(ROUNDS):
                threads = [
                    threading.Thread(
                        target=one.round,
                        args=(10_000 * (2 * number + at), random.Random(chance.random())),
                    )
                    for at, one in enumerate(workers)
                ]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join(60)
                check = check_log(path, noted=tuple(heads))
                assert check.problem is None
                heads.append(check.head)
        finally:
            for one in workers:
                one.stop()
        acknowledged = {number for one in workers for number in one.acknowledged}
        recorded = numbers(path)
        assert len(recorded) == len(set(recorded))
        assert acknowledged <= set(recorded), "what was answered is kept"
        # The one more that each round may hold was written and not acknowledged any more.
        assert len(set(recorded) - acknowledged) <= 2 * ROUNDS
        assert len(acknowledged) >= 2 * ROUNDS
        assert check_log(path).files > 1


# Killed by the kernel in the middle of a write: its default for a process that exceeds a limit.
DYING = """
import os, resource, signal, sys
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
limit = os.stat(sys.argv[1]).st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
ExchangeLog(sys.argv[1]).append(Exchange(
    request=Request(method="GET", url="https://h/2", headers=(), body=b"x" * 5000),
    response=Response(status=200, headers=(), body=b""),
))
"""


@pytest.mark.parametrize("written", [1, 77, 3000])
def test_a_process_that_dies_within_a_write_leaves_a_torn_line_and_no_more(tmp_path, written):
    log = ExchangeLog(tmp_path / "log.jsonl")
    plain = Exchange(
        request=Request(method="GET", url="https://h/1", headers=(), body=b""),
        response=Response(status=200, headers=(), body=b""),
    )
    head = log.append(plain).head
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(log.path), str(written)], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGXFSZ
    check = check_log(log.path, noted=(head,))
    assert (check.problem, check.torn, check.head) == (None, written, head)
    log.append(plain)
    check = check_log(log.path, noted=(head,))
    assert (check.problem, check.torn, check.exchanges, check.recovered) == (None, 0, 2, 1)
