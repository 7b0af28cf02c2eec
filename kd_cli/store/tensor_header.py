"""What a safetensors file says it holds, checked before any of it is read or memory is taken for it."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from kd_cli.errors import ArtifactError, first_line

LARGEST = 1 << 24  # bytes of a header: some hundred thousand tensors
FORMATS = {  # as safetensors calls them
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
Header = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def header_of(path: Path) -> Header:
    """Type and shape of each tensor; ArtifactError unless the tensors lie one after the other and fill the file.

    safetensors itself checks offsets, sizes and shapes. As "numpy" it maps the file read-only; as "pt" it would map it
    privately, which the kernel refuses for a file larger than memory.
    """
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LARGEST:
                raise ValueError("its header is too large")
        with safe_open(path, "numpy") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118  it is no mapping
            return {name: (FORMATS[part.get_dtype()], tuple(part.get_shape())) for name, part in parts.items()}
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError, RecursionError) as error:
        raise ArtifactError(f"{path} is no safetensors file that kd can read ({first_line(error)}).") from error
