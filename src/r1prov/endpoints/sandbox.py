"""Runs code that a model wrote, and tests of it, in a sandbox; where there is none, nothing runs.

The sandbox is bubblewrap (`bwrap`): namespaces of the kernel without network, processes,
environment and files of this machine but for Python and the libraries of the system, read-only. In
it, limits of memory and time and a filter of system calls. It is as strong as the kernel: there is
no virtual machine around it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import cache
from pathlib import Path

from r1prov.endpoints.seccomp import refusing_filter
from r1prov.errors import UsageError
from r1prov.limits import (
    MAX_CODE_BYTES,
    MAX_CODE_MEMORY_BYTES,
    MAX_CODE_OUTPUT_BYTES,
    MAX_CODE_SECONDS,
)
from r1prov.text import printable

# A machine that does other things too needs longer than the processor does.
_PATIENCE = 3
_HINT = "install bubblewrap (0.8 or later, on Linux), or leave questions with the scorer `code` out"
# Where the libraries of the system are; the loader asks for all of them.
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_CHUNK = 65_536
# Limits first, then what came: the end of it is read before any of it runs. What the tests must
# reach is a word that nobody can guess: to exit early, or to print much, is not to pass.
_RUNNER = """
import resource, sys
for limit, value in (
    (resource.RLIMIT_AS, {memory}), (resource.RLIMIT_CPU, {seconds}), (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 16), (resource.RLIMIT_NPROC, 1),
):
    resource.setrlimit(limit, (value, value))
program = sys.stdin.buffer.read()
sys.stdin = None
word, _, program = program.partition(b"\\n")
def run():
    told = sys.stdout.buffer
    exec(compile(program, "answer", "exec"), {{"__name__": "answer"}})
    sys.stdout.flush()
    told.write(b"\\n" + word)
    told.flush()
run()
"""


@cache
def sandbox() -> Sandbox:
    """The sandbox of this machine, once it has shown that it works.

    Raises:
        UsageError: There is none, or it does not work.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise UsageError("code is run in bubblewrap alone, and `bwrap` is not there", hint=_HINT)
    found = Sandbox(program)
    if not found.run("assert sum(range(10)) == 45") or found.run("assert False"):
        why = found.complaint or "a trivial program did not come out as it must"
        raise UsageError(
            f"bubblewrap does not work here: {printable(why)}",
            hint="containers need leave for user namespaces; " + _HINT,
        )
    return found


class Sandbox:
    """bubblewrap with a Python interpreter in it.

    Args:
        program: The command `bwrap`.

    Attributes:
        complaint: What it last said on its error stream, in short.
    """

    def __init__(self, program: str) -> None:
        self.complaint = ""
        self._command = [program, *_walls(), *_python()]
        self._filter = refusing_filter(os.uname().machine)

    def run(self, code: str, *, seconds: int = MAX_CODE_SECONDS) -> bool:
        """Whether code runs to its end.

        Args:
            code: Python.
            seconds: Of processor time at most; of time, three times that.
        """
        word = secrets.token_hex(16).encode()
        raw = code.encode("utf-8", "surrogatepass")
        if len(raw) > MAX_CODE_BYTES:
            return False
        with tempfile.TemporaryFile() as filter_, tempfile.TemporaryFile() as given:
            filter_.write(self._filter)
            given.write(word + b"\n" + raw)
            for file in (filter_, given):
                file.seek(0)
            runner = _RUNNER.format(memory=MAX_CODE_MEMORY_BYTES, seconds=seconds)
            command = [self._command[0], "--seccomp", str(filter_.fileno()), *self._command[1:]]
            with subprocess.Popen(  # noqa: S603 - this is the sandbox
                [*command, runner],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[filter_.fileno()],
                env={},
                start_new_session=True,
            ) as process:
                try:
                    told, complaint = _read(process, time.monotonic() + _PATIENCE * seconds)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        self.complaint = complaint.decode(errors="replace").strip()[-200:]
        return process.returncode == 0 and told.endswith(b"\n" + word)


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """The end of what a process says, and of its complaints, until it ends or goes too far.

    One that takes too long or says too much is killed.
    """
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    ends = {process.stdout: b"", process.stderr: b""}
    left = MAX_CODE_OUTPUT_BYTES
    with selectors.DefaultSelector() as waiting:
        for pipe in ends:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                pipe = process.stdout if key.fileobj is process.stdout else process.stderr
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    waiting.unregister(pipe)
                left -= len(chunk)
                ends[pipe] = (ends[pipe] + chunk)[-1024:]
            if not ready or left < 0:
                process.kill()
                break
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
    return ends[process.stdout], ends[process.stderr]


def _walls() -> list[str]:
    return [
        *("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"),
        *(word for path in _LIBRARIES for word in ("--ro-bind-try", path, path)),
    ]


def _python() -> list[str]:
    """Mounts of the interpreter that runs this, and its command; packages stay outside."""
    prefix = Path(sys.base_prefix)
    program = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    mounts = [(program, Path("/python/bin/python")), (library, Path("/python/lib") / library.name)]
    shared = sysconfig.get_config_var("INSTSONAME")
    if shared and (prefix / "lib" / shared).exists():
        mounts.append((prefix / "lib" / shared, Path("/python/lib") / shared))
    words = [word for a, b in mounts for word in ("--ro-bind", str(a), str(b))]
    for packages in ("site-packages", "dist-packages"):
        if (library / packages).is_dir():
            words += ["--tmpfs", str(Path("/python/lib") / library.name / packages)]
    settings = {
        "PYTHONHOME": "/python",
        "LD_LIBRARY_PATH": "/python/lib",
        "PYTHONHASHSEED": "0",
    }
    words += [word for name, value in settings.items() for word in ("--setenv", name, value)]
    # Nothing can be written anywhere, not even into memory.
    words += ["--chdir", "/", "--remount-ro", "/"]
    return [*words, "/python/bin/python", "-S", "-s", "-B", "-X", "utf8", "-c"]
