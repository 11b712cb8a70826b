"""A Python that has imported what it runs: each program is a fork of it, not a start anew.

What runs is what `python ARGUMENTS…` would run, in a process, a directory and with streams of its
own. As a program: `python forking_python.py MODULE…` imports the modules and reads requests, a line
of JSON each, from its standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

# Seconds for one program.
_MOST = 60


class ForkingPython:
    """Runs programs as `subprocess.run([interpreter, *arguments], capture_output=True)` does."""

    def __init__(self, process: subprocess.Popen[str], room: Path) -> None:
        self._process = process
        self._room = room

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS…` in the current directory; `-m` or `-c` comes first."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [*map(str, arguments)]
        streams = [str(self._room / name) for name in ("stdout", "stderr")]
        request = {"arguments": words, "directory": os.getcwd(), "streams": streams}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_MOST):
                self._process.kill()
                raise subprocess.TimeoutExpired(words, _MOST)
        answer = self._process.stdout.readline()
        assert answer, "the interpreter has ended"
        out, err = (Path(one).read_text() for one in streams)
        return subprocess.CompletedProcess(words, int(answer), out, err)


@contextlib.contextmanager
def forking_python(interpreter: Path, *modules: str) -> Iterator[ForkingPython]:
    """An interpreter that has imported `modules`; it ends with the block."""
    with (
        tempfile.TemporaryDirectory() as room,
        subprocess.Popen(
            [interpreter, "-P", __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield ForkingPython(process, Path(room))
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _run(arguments: Sequence[str], directory: str, streams: Sequence[str]) -> int:
    """Run a program in a process that was just forked; its exit status."""
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    how, what, *rest = arguments
    try:
        if how == "-m":
            sys.argv = [what, *rest]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            assert how == "-c"
            sys.argv = ["-c", *rest]
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - as an interpreter does
        traceback.print_exc()
        return 1
    return 0


def main(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = _run(**json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status & 0xFF)
        _, ended = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
