"""Files of a model folder that can run code, told by name and by first bytes.

Weights are data. A pickle, a script or a library beside them is a program that a loader may start,
so each is shown for what it is. Nothing here is ever executed or unpickled.
"""

from __future__ import annotations

import re
from typing import Final

from r1prov.formats.pickles import is_pickle

_MAX_HEAD_BYTES: Final = 4096

_BY_SUFFIX: Final[dict[str, str]] = {
    suffix: kind
    for kind, suffixes in {
        "Python pickle": ".pkl .pickle .dill .cloudpickle .pck .npk",
        "PyTorch checkpoint": ".pt .pth .pt2 .ptl .ckpt .mar .nemo",
        "joblib pickle": ".joblib",
        "Python code": ".py .pyi .pyw .ipynb .pyx",
        "compiled Python code": ".pyc .pyo",
        "Python package": ".whl .egg .pyz",
        "native library": ".so .dll .dylib .pyd .a .o .lib .node .sys",
        "Windows program": ".exe .com .scr .msi .lnk",
        "program": ".llamafile .appimage .run .deb .rpm .apk .dmg .pkg",
        "shell script": ".sh .bash .zsh .fish .ksh .csh .command",
        "Windows script": ".bat .cmd .ps1 .psm1 .vbs .wsf .hta .reg",
        "script": ".js .mjs .cjs .ts .rb .pl .php .lua .tcl .r .jl .groovy",
        "Java program": ".jar .class .war",
        "WebAssembly module": ".wasm",
        "Keras model": ".keras",
        "Keras HDF5 model": ".h5 .hdf5",
        "TensorFlow graph": ".pb",
        "NumPy archive": ".npz",
        "zip archive": ".zip",
        "archive": ".tar .tgz .gz .bz2 .xz .zst .lz4 .7z .rar",
    }.items()
    for suffix in suffixes.split()
}
# `torch.save` names of transformers and its kind, which end in a suffix that says nothing.
_TORCH_BIN = re.compile(
    r"(?:pytorch_model|adapter_model|diffusion_pytorch_model|consolidated|training_args|optimizer"
    r"|scheduler|rng_state|trainer_state|mp_rank_)[^/]*\.bin"
)
_SHARED_OBJECT = re.compile(r".+\.so(?:\.[0-9]+)+")

_BY_START: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x7fELF", "ELF program"),
    (b"\xfe\xed\xfa\xce", "Mach-O program"),
    (b"\xfe\xed\xfa\xcf", "Mach-O program"),
    (b"\xce\xfa\xed\xfe", "Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "Mach-O program"),
    (b"\xca\xfe\xba\xbe", "Mach-O program or Java class"),
    (b"MZ", "Windows program"),
    (b"!<arch>\n", "native library"),
    (b"\0asm", "WebAssembly module"),
    (b"\x89HDF\r\n\x1a\n", "Keras HDF5 model"),
    (b"\x1bLua", "script"),
    (b"PK\x05\x06", "zip archive"),
    (b"PK\x07\x08", "zip archive"),
    (b"\x1f\x8b\x08", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\0", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
)

# `numpy.save` of an object array: the data behind the header is a pickle.
_NUMPY_OBJECTS = re.compile(rb"\x93NUMPY.{4,8}\{[^}]*'descr': '?\|?O", re.DOTALL)
# Two bytes of magic number (3000-3999 for CPython 3), then CR LF.
_COMPILED_PYTHON = re.compile(rb"[\x00-\xff][\x0b-\x0f]\r\n", re.DOTALL)


def classify(path: str, head: bytes) -> str | None:
    """What kind of executable content a file is, or `None` when it is harmless.

    Ask only about files whose header did not parse: the length of a safetensors header can spell
    any two or three magic bytes (8,483 is `#!`), and no first bytes tell such a file from a program
    that was made to look like one.

    What a pickle does behind the head is not seen. One of protocol 2 and up is recognised by its
    start all the same. One of protocol 0 or 1 whose first string, or other idle operations, fill
    the head looks like any unknown binary or text, and gives `None`.

    Args:
        path: Path in the model folder.
        head: First bytes of the file; 4096 are looked at.
    """
    name = path.rsplit("/", 1)[-1].casefold()
    kind = describe(head[:_MAX_HEAD_BYTES])
    if kind == "script" and name.endswith((".py", ".pyw")):
        kind = "Python code"
    if kind is not None:
        return kind
    if _TORCH_BIN.fullmatch(name):
        return "PyTorch checkpoint"
    if _SHARED_OBJECT.fullmatch(name):
        return "native library"
    dot = name.rfind(".")
    return _BY_SUFFIX.get(name[dot:]) if dot >= 0 else None


def describe(head: bytes) -> str | None:
    """What kind of executable content bytes start with, or `None` when none is recognised."""
    if head.startswith(b"#!"):
        return _script(head)
    if head.startswith(b"PK\x03\x04"):
        # `torch.save` writes `NAME/data.pkl` first.
        if b"/data.pkl" in head or b"data.pkl" in head[30:64]:
            return "PyTorch checkpoint (zip of pickles)"
        return "zip archive"
    for start, kind in _BY_START:
        if head.startswith(start):
            return kind
    if head[257:262] == b"ustar":
        return "archive"
    if _COMPILED_PYTHON.match(head) and len(head) >= 16:
        return "compiled Python code"
    if _NUMPY_OBJECTS.match(head[:256]):
        return "NumPy array of pickled objects"
    if is_pickle(head):
        # The legacy `torch.save` starts with a pickle of this number (`MAGIC_NUMBER`).
        if head[2:].startswith(b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."):
            return "PyTorch checkpoint (pickles)"
        return "Python pickle"
    return None


def foreign_kind(head: bytes) -> str | None:
    """What bytes are that should start a weight file and do not, or `None` when unknown."""
    # The commonest of all: a clone without Git LFS leaves a small text file in place of weights.
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file; fetch it with `git lfs pull`"
    if head.startswith(b"GGUF"):
        return "a GGUF file"
    if head.lstrip()[:1] == b"<":
        return "HTML or XML, such as an error page of a server"
    # A header length can start with the byte of `{` too, but always has a NUL.
    if head.lstrip()[:1] == b"{" and b"\0" not in head[:8]:
        return "JSON without the header length before it"
    if head and not any(head):
        return "zeros, as a download that was never finished leaves them"
    kind = describe(head)
    return None if kind is None else f"{kind} content"


def trailing_kind(head: bytes, end: bytes) -> str | None:
    """What bytes are that follow the end of a weight file, or `None` when unknown.

    Args:
        head: The first of them.
        end: The last of them; a ZIP archive is found by its end record, whatever stands before.
    """
    # APPNOTE.TXT 4.3.16: 22 bytes and a comment of up to 64 KiB.
    if b"PK\x05\x06" in end or b"PK\x03\x04" in head[:4]:
        return "zip archive"
    if head and not any(head) and not any(end):
        return "zeros"
    return describe(head)


def _script(head: bytes) -> str:
    line = head[2:].split(b"\n", 1)[0]
    if b"python" in line:
        return "Python code"
    return "shell script" if re.search(rb"\b(?:ba|z|k|c|da|fi)?sh\b", line) else "script"
