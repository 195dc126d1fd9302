"""Say in one sentence why a model cannot be loaded, and the way out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedmosaic.errors import ModelError
from fedmosaic.models.names import Source

_UNSUPPORTED = re.compile(r"not (?:yet )?supported|unsupported|not implemented", re.IGNORECASE)
_ATTENTION = re.compile(r"attn_implementation|attention|flash", re.IGNORECASE)


@contextmanager
def explained(name: str, source: Source, part: str = "", attention: str = "auto") -> Iterator[None]:
    """Turn every error inside into a ModelError of one sentence.

    Transformers, tokenizers and safetensors raise errors of many kinds, some of them plain
    ``Exception``.

    Args:
        name: of the model.
        source: where it is.
        part: what is loaded, e.g. ``"tokenizer"``; empty for the model.
        attention: the attention implementation that was asked for.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if attention != "auto" and _ATTENTION.search(str(error)):
            raise ModelError(
                f"model {name!r} cannot be loaded with models.attn_implementation: {attention} "
                f"({_first_line(error)}): use auto, eager, sdpa, or one that this machine has"
            ) from error
        raise ModelError(f"model {name!r} {_explain(error, source, part)}") from error


def _explain(error: Exception, source: Source, part: str) -> str:
    from huggingface_hub import errors

    chain = list(_chain(error))
    if any(isinstance(one, torch.OutOfMemoryError | MemoryError) for one in chain):
        return (
            "does not fit into the memory of its device: use models.dtype: bfloat16, "
            "models.quantise: 4bit, or models.device_map: auto over several cards"
        )
    if source.folder is None:
        where = f"https://huggingface.co/{source.place}"
        for kind, reason in (
            (
                errors.GatedRepoError,
                f"is gated: accept its licence at {where} and log in with `hf auth login` "
                "(huggingface-cli login), or set HF_TOKEN",
            ),
            (
                errors.RepositoryNotFoundError,
                f"is not on the Hugging Face Hub, or is private: check its spelling at {where}; "
                "for a private one log in with `hf auth login` (huggingface-cli login) or set "
                "HF_TOKEN",
            ),
            (errors.RevisionNotFoundError, f"has no revision {source.revision!r}: see {where}"),
        ):
            if any(isinstance(one, kind) for one in chain):
                return reason
        if any(_unreachable(one) for one in chain):
            return _offline(source)
    if any(isinstance(one, ImportError) for one in chain):
        return f"needs a package that is not installed: {_first_line(error)}"
    if "trust_remote_code" in str(error):
        return remote_code(source)
    if source.gguf:
        return _explain_gguf(error)
    if part:
        return (
            f"cannot be loaded: its {part} cannot be read ({_first_line(error)}); copy or download "
            "it again"
        )
    return f"cannot be loaded: {_first_line(error)}"


def _explain_gguf(error: Exception) -> str:
    """Say why a GGUF file cannot be unpacked: Transformers does so for some architectures only."""
    reason = _first_line(error).rstrip(".")
    if _UNSUPPORTED.search(reason):
        return (
            f"cannot be unpacked by Transformers ({reason}): name the Hugging Face id or the "
            "folder of the model that the GGUF file was made from"
        )
    return (
        f"cannot be unpacked: the GGUF file is incomplete or damaged ({reason}): copy or download "
        "it again, or name the folder of the model that it was made from"
    )


def remote_code(source: Source) -> str:
    """Return the end of a message about a model that needs code of its own."""
    where = source.folder or f"https://huggingface.co/{source.place}"
    return (
        "needs Python code that comes with its weights, which is not run: read the code in "
        f"{where}, and if you trust it set models.trust_remote_code: true, which runs it with your "
        "rights"
    )


def _offline(source: Source) -> str:
    why = "HF_HUB_OFFLINE is set" if _is_offline() else "the Hugging Face Hub cannot be reached"
    return (
        f"is no folder here and not complete in the Hub's cache, and {why}: download it with "
        f"`hf download {source.place}` where there is a network, or name the folder of a copy"
    )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("TRANSFORMERS_OFFLINE") == "1"


def _unreachable(error: BaseException) -> bool:
    from huggingface_hub import errors

    kinds = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)
    return isinstance(error, (*kinds, TimeoutError)) or type(error).__module__.startswith("httpx")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
