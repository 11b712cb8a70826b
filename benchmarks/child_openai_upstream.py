"""The cheapest server that answers like OpenAI's API: `python child_openai_upstream.py`.

Prints its port. `stream` answers 50 events at once, `hold` one a second for ten seconds, anything
else 1.1 kB of JSON.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httptools
import uvloop

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764000000,'
    b'"model":"deepseek-r1","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
EVENTS = 50
HELD_SECONDS = 10
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1764000000,
        "model": "deepseek-r1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 180}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 180, "total_tokens": 192},
    }
).encode()
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
) + ANSWER
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Protocol(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - a transport of uvloop
        """A client connected."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""

    def on_url(self, url: bytes) -> None:
        """Its target, or a part of it."""
        self.url += url

    def on_message_complete(self) -> None:
        """It is whole."""
        if self.url.endswith(b"/hold"):
            self.transport.write(HEAD)
            self.hold(HELD_SECONDS)
        elif self.url.endswith(b"/stream"):
            self.transport.write(HEAD)
            for _ in range(EVENTS):
                self.transport.write(chunk(EVENT))
            self.transport.write(chunk(DONE) + b"0\r\n\r\n")
        else:
            self.transport.write(WHOLE)

    def hold(self, left: int) -> None:
        """An event now, and one a second after it."""
        if self.transport.is_closing():
            return
        if left == 0:
            self.transport.write(chunk(DONE) + b"0\r\n\r\n")
            return
        self.transport.write(chunk(EVENT))
        asyncio.get_running_loop().call_later(1, self.hold, left - 1)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
