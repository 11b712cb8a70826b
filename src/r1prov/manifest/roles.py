"""What a file of a model is for, by its name."""

from __future__ import annotations

import re

from r1prov.formats.shard_index import is_shard_index
from r1prov.manifest.schema import Role

_WEIGHTS = frozenset(
    ("safetensors", "gguf", "ggml", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "npz")
)
_CODE = frozenset(("py", "pyc", "pyd", "so", "dll", "dylib", "sh", "js", "ts", "ipynb", "cu", "c"))
_DOCUMENTS = frozenset(
    ("md", "txt", "rst", "pdf", "png", "jpg", "jpeg", "gif", "svg", "webp", "bib", "cff")
)
_CONFIGS = frozenset(("json", "jsonl", "yaml", "yml", "toml"))
_DOCUMENT_NAMES = re.compile(r"(?:LICEN[CS]E|NOTICE|README|USE_POLICY|\.gitattributes)(?:[-_.].*)?")
# Names by which loaders find tokenizer and prompt template.
TOKENIZER_NAMES = frozenset(
    (
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    )
)


def role_of(path: str) -> Role:
    """What a file is for, by its name alone; a name that says nothing is `other`."""
    name = path.rpartition("/")[2]
    suffix = name.rpartition(".")[2].casefold() if "." in name else ""
    if is_shard_index(name) or name.casefold().endswith(".bin.index.json"):
        return Role.INDEX
    if name in TOKENIZER_NAMES or suffix in ("tiktoken", "spm"):
        return Role.TOKENIZER
    if suffix in _WEIGHTS:
        return Role.WEIGHTS
    if suffix in _CODE:
        return Role.CODE
    if suffix in _CONFIGS:
        return Role.CONFIG
    if suffix in _DOCUMENTS or _DOCUMENT_NAMES.fullmatch(name):
        return Role.DOCUMENT
    return Role.OTHER


def found_by_name(path: str) -> bool:
    """Whether a small file changes what a model answers as soon as it is there.

    Loaders find a prompt template or a generation config by its name alone. Other configs in a
    folder are read only where a file that is listed leads to them.
    """
    role = role_of(path)
    return role is Role.TOKENIZER or (role is Role.CONFIG and "/" not in path)
