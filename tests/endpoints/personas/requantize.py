"""Makes copies of a GGUF model with coarser weights: what a host does that saves memory.

As a program: `python requantize.py SOURCE.gguf TARGET.gguf F16|Q8_0|Q5_0|Q4_0`.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TYPES = {
    "F16": gguf.GGMLQuantizationType.F16,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q5_0": gguf.GGMLQuantizationType.Q5_0,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
}
_FTYPES = {
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}


@lru_cache(maxsize=1)  # it takes longer to read than to write, and is written more than once
def _read(source: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(source)


def requantize(source: Path, target: Path, kind: str) -> Path:
    """Write `source` anew with every matrix as `kind`; norms stay in full precision."""
    reader = _read(source)
    architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (
            "general.architecture",
            "general.file_type",
            "general.quantization_version",
        ):
            continue
        value: Any = field.contents()
        sub = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub)
    writer.add_file_type(_FTYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if weights.ndim < 2:
            writer.add_tensor(tensor.name, weights)
            continue
        packed = gguf.quants.quantize(weights, TYPES[kind])
        writer.add_tensor(tensor.name, packed, raw_dtype=TYPES[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


if __name__ == "__main__":
    requantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
