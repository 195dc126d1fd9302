"""Build one tiny checkpoint folder as a publisher saves it, from weights to chat template."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

Tokenizer = PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """What makes a family: its model, its tokenizer, its processor and its chat template.

    ``processor`` builds the processor, or is the content of its file where only torchvision can
    build it. ``stops`` are the tokens that end an answer, as ``generation_config.json`` lists them.
    ``video`` is the part of ``processor_config.json`` that describes the video processor: a
    publisher's folder has it, and making it otherwise would need torchvision.
    """

    model: Callable[[Tokenizer], PreTrainedModel]
    tokenizer: Callable[[], Tokenizer]
    template: str | None = None
    processor: Callable[[Tokenizer], ProcessorMixin] | dict[str, object] | None = None
    stops: tuple[str, ...] = ()
    video: dict[str, object] | None = None

    def save(self, folder: Path) -> Path:
        """Write the folder; the same bytes every time."""
        tokenizer = self.tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.model(tokenizer)
            randomise(model)
        stops = [tokenizer.convert_tokens_to_ids(token) for token in self.stops]
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=stops or tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.save_pretrained(folder)
        if not callable(self.processor):
            tokenizer.chat_template = self.template
            tokenizer.save_pretrained(folder)
            if self.processor is not None:
                write(folder / "processor_config.json", self.processor)
        else:
            processor = self.processor(tokenizer)
            processor.chat_template = self.template
            processor.save_pretrained(folder)
            self._finish_processor(folder / "processor_config.json")
        return folder

    def _finish_processor(self, path: Path) -> None:
        """Name the image processor as its publisher does, and add the video processor."""
        config = json.loads(path.read_text())
        kind = config["image_processor"]["image_processor_type"]
        config["image_processor"]["image_processor_type"] = kind.removesuffix("Pil")
        config.pop("video_processor", None)
        if self.video is not None:
            config["video_processor"] = self.video
        write(path, config)


def write(path: Path, settings: dict[str, object]) -> None:
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def randomise(model: PreTrainedModel) -> None:
    """Draw every parameter, so that none is zero or one: a norm or bias left out shows."""
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape)
        with torch.no_grad():
            if parameter.dim() < 2:
                parameter.add_(0.2 * noise)
            else:
                inputs = parameter.shape[-1] if parameter.dim() < 4 else parameter[0].numel()
                parameter.copy_(noise / math.sqrt(inputs))


def embedding_rows(tokenizer: Tokenizer) -> int:
    """Return the vocabulary size that a config names: some rows more than the tokenizer uses."""
    return 16 * (len(tokenizer) // 16 + 1)


def template(name: str) -> str:
    """Return a chat template of the folder ``templates``."""
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text().rstrip("\n")


NOT_SET = object()  # a setting of ``text_config`` that a family's configuration does not take


def text_config(
    kind: Callable[..., PreTrainedConfig], tokenizer: Tokenizer, **changes: object
) -> PreTrainedConfig:
    """Return the configuration of a tiny decoder of three layers."""
    settings = {
        "vocab_size": embedding_rows(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **changes,
    }
    return kind(**{key: value for key, value in settings.items() if value is not NOT_SET})
