"""Find out whether a model is on this machine, without loading it."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.errors import FedMosaicError
from fedmosaic.models.names import locate


def why_not_local(name: str) -> str:
    """Return why a model is not on this machine; empty if it is."""
    from huggingface_hub import try_to_load_from_cache

    try:
        source = locate(name)
    except FedMosaicError as error:
        return str(error)
    if source.folder is not None:
        return ""
    revision = source.revision or "main"
    found = try_to_load_from_cache(source.place, "config.json", revision=revision)
    if isinstance(found, str) and any(Path(found).parent.glob("*.safetensors")):
        return ""
    return "it is not on this machine; check with --model to download it"
