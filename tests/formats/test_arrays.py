"""Bytes of tensors as arrays, held against the libraries that write them."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load, save

from r1prov.errors import UsageError
from r1prov.formats.arrays import as_numpy, as_torch, check_framework
from r1prov.formats.inventory import DTYPE_BITS
from r1prov.formats.safetensors import read_header

# What numpy has of its own.
_NATIVE = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
}
_ADDED = {"BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
_PACKED = {"F4", "F6_E2M3", "F6_E3M2"}


def test_the_three_kinds_are_all_dtypes():
    assert set(_NATIVE) | _ADDED | _PACKED == set(DTYPE_BITS)


@pytest.mark.parametrize("dtype", sorted(_NATIVE))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)], ids=str)
def test_arrays_are_those_that_safetensors_reads(dtype, shape):
    given = np.ones(shape, _NATIVE[dtype])
    given[...] = np.arange(given.size).reshape(shape) % 2
    raw = save({"x": given})
    header = read_header(lambda at, length: raw[at : at + length], len(raw), file="x")
    (tensor,) = header.tensors
    begin = 8 + header.header_bytes
    data = memoryview(bytearray(raw))[begin + tensor.begin : begin + tensor.end]
    assert tensor.dtype == dtype
    ours = as_numpy(data, tensor.dtype, tensor.shape)
    theirs = load(raw)["x"]
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert np.array_equal(ours, theirs)
    assert not ours.flags.writeable


def test_without_ml_dtypes_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UsageError, match="ml_dtypes is not installed") as caught:
        as_numpy(memoryview(b"\x80\x3f"), "BF16", (1,))
    assert caught.value.hint == "numpy has no BF16; install ml_dtypes, which adds it"


def test_without_a_framework_the_error_names_it(monkeypatch):
    for name, module in (("np", "numpy"), ("pt", "torch")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=f"{module} is not installed"):
            check_framework(name)


@pytest.mark.parametrize("dtype", sorted(_PACKED))
def test_packed_dtypes_have_no_array(dtype):
    with pytest.raises(UsageError, match=f"no dtype for {dtype}"):
        as_numpy(memoryview(bytes(3)), dtype, (4,))


# `ml_dtypes` and torch are no dependencies of r1prov; the first is one of its tests.


@pytest.mark.parametrize("dtype", sorted(_ADDED))
def test_ml_dtypes_adds_the_small_floats(dtype):
    raw, value = {
        "BF16": (b"\xc0\x3f", 1.5),
        "F8_E4M3": (b"\x3c", 1.5),
        "F8_E5M2": (b"\x3e", 1.5),
        "F8_E8M0": (b"\x80", 2.0),
        "F8_E4M3FNUZ": (b"\x44", 1.5),
        "F8_E5M2FNUZ": (b"\x42", 1.5),
    }[dtype]
    array = as_numpy(memoryview(raw), dtype, (1,))
    assert array.astype(np.float64).tolist() == [value]


def test_torch_tensors_are_those_that_safetensors_reads():
    torch = pytest.importorskip("torch")
    from safetensors.torch import load as load_torch
    from safetensors.torch import save as save_torch

    given = {
        "bf16": torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        "f8": torch.tensor([1.5, 2.0]).to(torch.float8_e4m3fn),
        "f32": torch.tensor(3.25),
        "i64": torch.tensor([1, -1]),
        "none": torch.empty((0, 3), dtype=torch.float16),
    }
    raw = save_torch(given)
    header = read_header(lambda at, length: raw[at : at + length], len(raw), file="x")
    theirs = load_torch(raw)
    begin = 8 + header.header_bytes
    for tensor in header.tensors:
        data = memoryview(raw)[begin + tensor.begin : begin + tensor.end]
        ours = as_torch(data, tensor.dtype, tensor.shape)
        assert ours.dtype == theirs[tensor.name].dtype
        assert torch.equal(ours.float(), theirs[tensor.name].float())
        assert ours.shape == theirs[tensor.name].shape
        ours.zero_()  # its own memory
