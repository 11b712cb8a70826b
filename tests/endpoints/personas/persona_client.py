"""Asks a test endpoint over real HTTP and keeps the bytes that came back."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
from persona_server import KEY, MODEL

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.read_answer import read_answer
from r1prov.responses.exchange import Exchange, Request, Response


def exchange(
    url: str, prompt: str, *, stream: bool = False, **fields: Any
) -> tuple[Exchange, list[tuple[int, float]]]:
    """One request, with the bytes of its answer and when they came."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "stream": stream,
        **fields,
    }
    raw = json.dumps(body, ensure_ascii=False).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    target = f"{url}/chat/completions"
    received, arrivals, start = b"", [], time.monotonic()
    with (
        httpx.Client(timeout=30, verify=False) as http,
        http.stream("POST", target, content=raw, headers=headers) as answer,
    ):
        for chunk in answer.iter_raw():
            received += chunk
            arrivals.append((len(received), time.monotonic() - start))
    return (
        Exchange(
            request=Request(method="POST", url=target, headers=(), body=raw),
            response=Response(
                status=answer.status_code,
                headers=tuple(answer.headers.multi_items()),
                body=received,
            ),
        ),
        arrivals,
    )


def ask(url: str, prompt: str, *, stream: bool = False, **fields: Any) -> Answer:
    """One request and its answer, normalised."""
    got, arrivals = exchange(url, prompt, stream=stream, **fields)
    return read_answer(got, arrivals=arrivals)
