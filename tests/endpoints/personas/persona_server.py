"""An OpenAI-compatible HTTP server on loopback: one persona, or first one and then another."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from personas import Persona, Speaker, Tokenizers

KEY = "sk-for-tests"
MODEL = "deepseek-reasoner"
# What the API for deepseek-reasoner refused.
_REFUSED = ("logprobs", "top_logprobs")


@dataclass
class PersonaServer:
    """A running server.

    Attributes:
        url: Base address, with `/v1`.
        speakers: Who answers, one after the other.
        swap_after: Requests that each but the last answers.
        requests: Bodies of the requests so far.
        refuses: Whether it refuses what DeepSeek's API did.
        mixed: Whether each request goes to any of the speakers, as gateways retry elsewhere.
    """

    speakers: Sequence[Speaker]
    swap_after: int | None = None
    refuses: bool = True
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    mixed: random.Random | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: dict[str, Any]) -> tuple[Speaker, int]:
        """Note a request, and who answers it."""
        with self._lock:
            self.requests.append(body)
            number = len(self.requests)
            if self.mixed is not None:
                return self.mixed.choice(self.speakers), number
        turn = 0 if self.swap_after is None else (number - 1) // self.swap_after
        return self.speakers[min(turn, len(self.speakers) - 1)], number


@contextmanager
def serve(
    *personas: Persona,
    tokenizers: Tokenizers,
    swap_after: int | None = None,
    refuses: bool = True,
) -> Iterator[PersonaServer]:
    """Start a server of these personas; it stops with the block."""
    server = PersonaServer(
        [Speaker(one, tokenizers) for one in personas], swap_after, refuses=refuses
    )

    class Handler(_Handler):
        state = server

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: PersonaServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._refuse(404, "not found")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._refuse(401, "Authentication Fails (no such user)")
            return
        if self.path != "/v1/chat/completions":
            self._refuse(404, "not found")
            return
        try:
            body = json.loads(raw)
            prompt = "\n".join(one["content"] for one in body["messages"])
        except (ValueError, KeyError, TypeError):
            self._refuse(400, "Failed to deserialize the JSON body into the target type")
            return
        if self.state.refuses:
            for name in _REFUSED:
                if name in body:
                    self._refuse(400, f"deepseek-reasoner does not support the parameter `{name}`")
                    return
            if any("reasoning_content" in one for one in body["messages"]):
                self._refuse(400, "The reasoning_content is an intermediate result")
                return
        speaker, number = self.state.take(body)
        self._answer(speaker, number, body, prompt)

    def _answer(self, speaker: Speaker, number: int, body: dict[str, Any], prompt: str) -> None:
        persona = speaker.persona
        reasoning, content, finish = speaker.answer(prompt, body)
        cut = finish == "length"
        used = speaker.prompt_tokens(prompt), speaker.completion_tokens(reasoning, content)
        usage = None
        if used[0] is not None and used[1] is not None:
            usage = {
                "prompt_tokens": used[0],
                "completion_tokens": used[1],
                "total_tokens": used[0] + used[1],
            }
        head = {
            "id": f"chat-{number}",
            "created": 1_770_000_000 + number,
            "model": body.get("model"),
            "system_fingerprint": persona.fingerprint,
        }
        if body.get("stream"):
            self._stream(speaker, head, (reasoning, content, finish), usage)
            return
        message: dict[str, Any] = {"role": "assistant"}
        for name, text in _placed(persona.shape, reasoning, content, cut=cut and not content):
            message[name] = message.get(name, "") + text
        message.setdefault("content", "")
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
        if body.get("logprobs"):
            choice["logprobs"] = speaker.logprobs(prompt, body)
        answer = {**head, "object": "chat.completion", "choices": [choice]}
        if usage is not None:
            answer["usage"] = usage
        self._json(200, answer)

    def _stream(
        self,
        speaker: Speaker,
        head: dict[str, Any],
        said: tuple[str, str, str],
        usage: dict[str, int] | None,
    ) -> None:
        reasoning, content, finish = said
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b": keep-alive\n\n")

        def event(delta: dict[str, Any], reason: str | None = None, **more: Any) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            value = {**head, "object": "chat.completion.chunk", "choices": [choice], **more}
            self._chunk(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

        event({"role": "assistant", "content": ""})
        cut = finish == "length" and not content
        for name, text in _placed(speaker.persona.shape, reasoning, content, cut=cut):
            for piece in speaker.pieces(text):
                event({name: piece})
        event({}, finish, **({} if usage is None else {"usage": usage}))
        self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _json(self, status: int, value: object) -> None:
        raw = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _refuse(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error"}})


def _placed(shape: str, reasoning: str, content: str, *, cut: bool) -> list[tuple[str, str]]:
    """Which field each text goes into."""
    match shape:
        case "none":
            return [("content", content)]
        case "think" | "think-end":
            start = "<think>\n" if shape == "think" else ""
            end = "" if cut else "</think>\n\n"
            return [("content", start + reasoning + end + content)]
        case _:
            return [(shape, reasoning), ("content", content)]
