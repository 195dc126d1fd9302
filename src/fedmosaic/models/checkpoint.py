"""Check the files of a model folder before anything is loaded from them.

Only safetensors are read: they hold numbers alone. Pickled weights can hold code and are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedmosaic.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt")
_POINTER = "it is only a pointer of Git LFS: run `git lfs pull` in the folder"
_GGUF = b"GGUF"
_GGUF_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json", "*.tiktoken"),
)


def read_json(name: str, path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of model ``name``.

    Raises:
        ModelError: the file holds no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(
            f"model {name!r}: {path.name} cannot be read ({error}): copy or download it again"
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"model {name!r}: {path.name} holds no JSON object")
    return found


def check_weight_files(name: str, folder: Path) -> list[Path]:
    """Return the weight files of a model folder, each of which can be opened.

    Raises:
        ModelError: there are none, only pickled ones, or a file is missing or broken.
    """
    if (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    elif (folder / INDEX).is_file():
        files = _shards(name, folder)
    else:
        _refuse_pickled(name, folder)
        raise ModelError(
            f"model {name!r}: its folder holds no weights ({WEIGHTS}, or {INDEX} and the files "
            "that it names): copy or download them"
        )
    for path in files:
        tensor_names(name, path)
    return files


def tensor_names(name: str, path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file.

    Raises:
        ModelError: the file is cut short or is no safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        way_out = _POINTER if _is_pointer(path) else _damaged(error)
        raise ModelError(f"model {name!r}: {path.name} cannot be read; {way_out}") from error


def check_gguf_file(name: str, path: Path) -> None:
    """Raise ModelError if a file is no GGUF file, or is one of several parts of one."""
    with path.open("rb") as stream:
        found = stream.read(len(_GGUF))
    if found != _GGUF:
        way_out = _POINTER if _is_pointer(path) else _damaged("it does not begin as a GGUF file")
        raise ModelError(f"model {name!r} cannot be read; {way_out}")
    if _GGUF_PART.search(path.name):
        raise ModelError(
            f"model {name!r} is one of several parts of a GGUF file: join them with "
            "`llama-gguf-split --merge <first part> <new file>`, and name the new file"
        )


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(40).startswith(b"version https://git-lfs")


def _damaged(reason: object) -> str:
    return f"the file is incomplete or damaged ({reason}): copy or download it again"


def check_tokenizer_files(name: str, folder: Path) -> None:
    """Raise ModelError if a folder holds no tokenizer."""
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ModelError(
            f"model {name!r}: its folder holds no tokenizer (tokenizer.json): copy it from the "
            "model that this one was made from, with "
            "`AutoTokenizer.from_pretrained(<that model>).save_pretrained(<this folder>)`"
        )


def check_processor_files(name: str, folder: Path) -> None:
    """Raise ModelError if a vision-language model's folder holds no processor."""
    if not any((folder / file).is_file() for file in _PROCESSOR_FILES):
        raise ModelError(
            f"model {name!r}: its folder holds no image processor ({' or '.join(_PROCESSOR_FILES)})"
            ": copy it, and the chat template, from the model that this one was made from"
        )


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first names of many, for messages: ``a, b, c and 5 more``."""
    ordered = sorted(names)
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {rest} more" if rest > 0 else "")


def _shards(name: str, folder: Path) -> list[Path]:
    index = read_json(name, folder / INDEX)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"model {name!r}: {INDEX} has no weight_map: copy or download it again")
    files = sorted({str(file) for file in places.values()})
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ModelError(
            f"model {name!r}: {len(missing)} of its {len(files)} weight files are missing "
            f"({some(missing)}), which {INDEX} names: copy or download them"
        )
    return [folder / file for file in files]


def _refuse_pickled(name: str, folder: Path) -> None:
    pickled = sorted({path.name for pattern in _PICKLED for path in folder.glob(pattern)})
    if pickled:
        raise ModelError(
            f"model {name!r}: its weights are pickled ({some(pickled)}), which could run code when "
            "they are read, so only safetensors are: convert them once where you trust them, with "
            "`AutoModel….from_pretrained(<folder>).save_pretrained(<new folder>)`"
        )
