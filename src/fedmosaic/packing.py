"""Serialise named tensors and plain values: the format of messages, checkpoints and alignments.

The bytes are a safetensors file. It holds one flat vector for each dtype (hundreds of small tensors
would take more time one by one), a JSON manifest of names and shapes, and the plain values. It
contains no code. Equal content gives equal bytes.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

CONTENT = "content"
BUFFER = 1 << 20  # bytes; adapters are hundreds of small tensors, which are written together
# The types of safetensors, in the order in which a file holds them.
KINDS = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def pack(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> bytes:
    """Serialise tensors and plain values (any JSON) to bytes; each value is copied once."""
    return b"".join(_parts(tensors, scalars))


def write(path: Path, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Write the bytes of :func:`pack` to a file without holding them in memory; not atomic."""
    with path.open("wb", buffering=BUFFER) as stream:
        for part in _parts(tensors, scalars):
            stream.write(part)
    path.chmod(0o644)


def unpack(payload: bytes, *, share: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and plain values back from bytes of :func:`pack`.

    Args:
        payload: the bytes.
        share: the tensors are views of the payload, which nobody may write to; else copies.

    Raises:
        ValueError: the bytes are not of :func:`pack`; the message has the reason.
    """
    try:
        length = int.from_bytes(payload[:8], "little")
        if not 0 < length <= len(payload) - 8:
            raise ValueError("it has no header")
        header = json.loads(payload[8 : 8 + length])
        content = json.loads(header.pop("__metadata__")[CONTENT])
        body = memoryview(payload if share else bytearray(payload))[8 + length :]
        return _split(_vectors(header, body), content["manifest"]), dict(content["scalars"])
    except (AttributeError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def read_some(path: Path, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, Tensor]]:
    """Read some tensors of a file of :func:`write`, without reading the others.

    Args:
        path: The file.
        wanted: Takes the name of a tensor and returns whether to read it.

    Returns:
        The names of all tensors, and the wanted tensors by name.

    Raises:
        ValueError: the file is not of :func:`write`; the message has the reason.
    """
    try:
        with safe_open(path, "pt") as stored:
            manifest = json.loads(stored.metadata()[CONTENT])["manifest"]
            names, found = [], {}
            for kind, entries in manifest.items():
                vector, start = stored.get_slice(kind), 0
                for name, shape in entries:
                    end = start + math.prod(shape)
                    names.append(name)
                    if wanted(name):
                        found[name] = vector[start:end].view(shape)
                    start = end
            return names, found
    except (SafetensorError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def _parts(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
) -> Iterator[bytes | memoryview]:
    """Yield the bytes in parts: length and header, then each tensor's values."""
    kinds: dict[str, list[str]] = {}
    for name, value in tensors.items():
        kinds.setdefault(str(value.dtype).removeprefix("torch."), []).append(name)
    if unknown := kinds.keys() - KINDS.keys():
        raise TypeError(f"tensors of {min(unknown)} cannot be stored")
    manifest = {
        kind: [[name, list(tensors[name].shape)] for name in names] for kind, names in kinds.items()
    }
    # One entry: safetensors has no fixed order of several, but equal messages must be equal bytes.
    content = json.dumps({"manifest": manifest, "scalars": dict(scalars)}, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {CONTENT: content}}
    order, end = sorted(kinds, key=list(KINDS).index), 0
    for kind in order:
        start, count = end, sum(tensors[name].numel() for name in kinds[kind])
        end += count * getattr(torch, kind).itemsize
        header[kind] = {"dtype": KINDS[kind], "shape": [count], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for kind in order:
        for name in kinds[kind]:
            yield _bytes_of(tensors[name])


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the values of a tensor as bytes, without a copy where they lie in one piece."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if len(flat) else memoryview(b"")


def _vectors(header: Mapping[str, Any], body: memoryview) -> dict[str, Tensor]:
    """Return the flat vectors of a safetensors file as views of its bytes.

    Raises:
        ValueError: the header and the bytes do not agree.
    """
    vectors: dict[str, Tensor] = {}
    at = 0
    for kind, entry in sorted(header.items(), key=lambda found: found[1]["data_offsets"][0]):
        (count,), (start, end) = entry["shape"], entry["data_offsets"]
        dtype = getattr(torch, kind) if kind in KINDS else torch.float32
        if (
            entry["dtype"] != KINDS.get(kind)
            or start != at
            or end != start + count * dtype.itemsize
        ):
            raise ValueError(f"its header describes {kind!r} wrongly")
        vectors[kind] = _view(body, dtype, count, start)
        at = end
    if at != len(body):
        raise ValueError(f"it has {len(body):,} bytes of values, its header says {at:,}")
    return vectors


def _view(body: memoryview, dtype: torch.dtype, count: int, start: int) -> Tensor:
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if start + count * dtype.itemsize > len(body):
        raise ValueError("it is cut off")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(body, dtype=dtype, count=count, offset=start)


def _split(vectors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the manifest as views of the flat vectors.

    Raises:
        ValueError: the manifest and the vectors do not agree.
    """
    if set(vectors) != set(manifest):
        raise ValueError("its manifest lists other dtypes than it holds")
    tensors: dict[str, Tensor] = {}
    for kind, entries in manifest.items():
        sizes = [math.prod(shape) for _, shape in entries]
        if (
            any(extent < 0 for _, shape in entries for extent in shape)
            or sum(sizes) != vectors[kind].numel()
        ):
            raise ValueError("the shapes in its manifest do not add up to the values it holds")
        for (name, shape), part in zip(entries, vectors[kind].split(sizes), strict=True):
            if name in tensors:
                raise ValueError(f"its manifest lists {name!r} twice")
            tensors[name] = part.view(shape)
    return tensors
