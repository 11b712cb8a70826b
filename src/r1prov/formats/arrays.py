"""The bytes of a tensor as an array of numpy or a tensor of torch.

Specification: https://github.com/huggingface/safetensors, README, section "Format": values are
little-endian and in row-major ("C") order. Names of dtypes as in `safetensors/torch.py` (`_TYPES`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

NUMPY: Final = ("np", "numpy")
TORCH: Final = ("pt", "torch", "pytorch")

_NUMPY_DTYPES: Final = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
# numpy has none of these; `ml_dtypes`, the package of JAX, adds them.
_ML_DTYPES: Final = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_TORCH_DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    **_ML_DTYPES,
}


def check_framework(framework: str) -> None:
    """Raise `UsageError` unless tensors can be had in this framework."""
    if framework in NUMPY:
        _import("numpy")
    elif framework in TORCH:
        _import("torch")
    else:
        raise UsageError(f"no tensors for {framework!r}", hint="framework is `np` or `pt`")


def as_numpy(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - no stubs needed
    """A read-only array over these bytes; nothing is copied.

    Args:
        data: The bytes of the tensor.
        dtype: Its dtype as safetensors spells it.
        shape: Its dimensions.

    Raises:
        UsageError: A package is missing, or numpy has no such dtype.
    """
    numpy = _import("numpy")
    if dtype in _NUMPY_DTYPES:
        kind = numpy.dtype(_NUMPY_DTYPES[dtype])
    elif dtype in _ML_DTYPES:
        extra = _import("ml_dtypes", f"numpy has no {dtype}; install ml_dtypes, which adds it")
        try:
            kind = numpy.dtype(getattr(extra, _ML_DTYPES[dtype]))
        except AttributeError:
            raise _no_dtype("this version of ml_dtypes", dtype) from None
    else:
        raise _no_dtype("numpy", dtype)
    return numpy.frombuffer(data.toreadonly(), dtype=kind).reshape(shape)


def as_torch(data: memoryview, dtype: str, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - no stubs needed
    """A tensor with a copy of these bytes, on the CPU: torch has no read-only tensors.

    Args:
        data: The bytes of the tensor.
        dtype: Its dtype as safetensors spells it.
        shape: Its dimensions.

    Raises:
        UsageError: torch is missing, or has no such dtype.
    """
    torch = _import("torch")
    kind = getattr(torch, _TORCH_DTYPES.get(dtype, ""), None)
    if kind is None:
        raise _no_dtype("this version of torch", dtype)
    if not data:  # `frombuffer` refuses an empty buffer
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(bytearray(data), dtype=kind).reshape(shape)


def _no_dtype(what: str, dtype: str) -> UsageError:
    return UsageError(f"{what} has no dtype for {dtype}", hint="get_buffer() gives the bytes")


def _import(name: str, hint: str | None = None) -> Any:  # noqa: ANN401 - a module
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise UsageError(f"{name} is not installed", hint=hint or f"install {name}") from None
