"""Provide two tiny vision-language models, and federations of them that record messages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

from fedmosaic.adapters import read_state
from fedmosaic.algorithms.message import Message
from fedmosaic.config import RunSettings
from fedmosaic.config.load import parse
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run import resolve
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import unpack
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions, load_pretrained

LAYERS = 3
FAMILIES = {"tiny/llama": "miniature/llama-8x96", "tiny/qwen2": "miniature/qwen2-10x112"}
TEXT = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
CLIENTS = [
    {"name": "a", "model": "tiny/llama", "tasks": ["miniature/stages-0"]},
    {"name": "b", "model": "tiny/qwen2", "tasks": ["miniature/stages-2"]},
    {"name": "c", "model": "tiny/llama", "tasks": ["miniature/idiom-3"]},
]
SCENARIO: dict[str, Any] = {
    "rounds": 2,
    "data": {"train": 6, "test": 2, "public": "miniature/public", "public_size": 4},
    "adapter": {"r": 2, "alpha": 4, "num_blocks": 2, "dropout": 0.1},
    "train": {"steps": 2, "batch_size": 2, "lr": 1e-2, "lr_shared": 1e-2},
    "relevance": {"every": 1},
    "evaluation": {"every": 0, "others": False, "views": ["mixed", "local", "global"]},
    "algorithms": {"perada": {"server_steps": 2}},
}


@cache
def tiny_backbone(name: str) -> Backbone:
    """Return a narrow model of a bundled one's family, of three layers and with random weights."""
    model, tokenizer, processor = load_pretrained(FAMILIES[name], ModelOptions(device="cpu"))
    config: dict[str, Any] = model.config.to_dict()
    width = 32 if "llama" in name else 48
    config["text_config"] |= {**TEXT, "hidden_size": width, "intermediate_size": width + 16}
    config["text_config"].pop("layer_types", None)
    config["vision_config"] |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    torch.manual_seed(0)
    small = LlavaForConditionalGeneration(LlavaConfig(**config)).eval().requires_grad_(False)
    return Backbone(name, small, tokenizer, processor)


class RecordedFederation(InProcess):
    """Run a federation and record its messages; needs the fixture ``tiny_models``.

    Attributes:
        downloads: for each round the messages to clients, by client.
        updates: for each round the messages from clients, by client.
        factors: for each round the schedule's factors on learning rates, where a test records them.
    """

    factors: dict[int, list[float]]

    def __init__(
        self,
        algorithm: str,
        path: Path,
        clients: Sequence[Mapping[str, Any]] = CLIENTS,
        **changes: Any,
    ) -> None:
        scenario = {**SCENARIO, "clients": list(clients), **changes}
        content = {"name": "contract", "algorithm": algorithm, "scenario": scenario}
        runtime = Runtime(parse(RunSettings, content, "contract"))
        self.runtime = runtime.with_settings(resolve(runtime))
        super().__init__(self.runtime)
        self.downloads: list[dict[str, Message]] = []
        self.updates: list[dict[str, Message]] = []
        self.folder = RunFolder(path)
        self.folder.create(self.runtime.settings)
        self.loop = RoundLoop(self.runtime, self, self.folder, Callback())
        self.server = self.loop.server

    @property
    def name(self) -> str:
        """Return the name of the algorithm or preset."""
        return self.runtime.settings.algorithm

    @property
    def algorithm(self) -> Any:
        return self.runtime.algorithm

    def exchange(
        self, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
    ) -> Iterator[tuple[str, ClientResult]]:
        self.downloads.append({name: unpack(payload) for name, payload in downloads.items()})
        self.updates.append({})
        for name, result in super().exchange(instructions, downloads):
            if result.update is not None:
                self.updates[-1][name] = unpack(result.update)
            yield name, result

    def run(self) -> RecordedFederation:
        self.loop.run()
        return self

    def restarted(self, path: Path, rounds: int = 1) -> RecordedFederation:
        """Return the federation as it was after so many rounds, in another folder."""
        settings = self.runtime.settings
        other = type(self).__new__(type(self))
        shutil.copytree(self.folder.path, path)
        for checkpoint in (path / "checkpoints").iterdir():
            if checkpoint.name > f"round-{rounds:04d}":
                shutil.rmtree(checkpoint)
        other.runtime = Runtime(settings)
        InProcess.__init__(other, other.runtime)
        other.downloads, other.updates, other.folder = [], [], RunFolder(path)
        other.loop = RoundLoop(other.runtime, other, other.folder, Callback())
        other.server = other.loop.server
        latest = other.folder.latest()
        assert latest is not None
        other.loop.restore(latest)
        return other

    def checkpoint(self, rounds: int) -> dict[str, bytes]:
        """Return the bytes of a checkpoint's files, by path."""
        folder = self.folder.checkpoints / f"round-{rounds:04d}"
        return {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file()
        }

    def client(self, name: str) -> LocalClient:
        return self.clients[name]


@contextmanager
def client_turn(federation: RecordedFederation, name: str) -> Iterator[Any]:
    """Enter a client's turn and undo at the end what is done to its adapters and state."""
    client = federation.client(name)
    before = dict(client._adapters), dict(client._moments), dict(client.state)
    with client.turn():
        yield client
    client._adapters, client._moments, client.state = before


def adapters_of(client: Any) -> dict[str, Tensor]:
    """Return copies of the adapter tensors in the model, by ``<adapter>/<key>``."""
    names = client.runtime.algorithm.adapters
    return {
        f"{a}/{key}": value
        for a in names
        for key, value in read_state(client.model, a, gates=True).items()
    }


@torch.no_grad()
def logits(model: Any, backbone: Any) -> Tensor:
    """Return a model's logits on two made-up sequences."""
    ids = torch.arange(20, 40).view(2, 10)
    embedded = backbone.model.get_input_embeddings()(ids)
    found: Tensor = model(
        inputs_embeds=embedded, attention_mask=torch.ones_like(ids), use_cache=False
    ).logits
    return found
