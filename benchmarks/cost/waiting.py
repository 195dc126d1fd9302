"""Find out whether a training step makes the program wait for its card."""

from __future__ import annotations

import numpy as np
import torch

from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.adapters.state import adapter_parameters
from fedmosaic.config import TrainSettings
from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.options import ModelOptions
from fedmosaic.training.loss import answer_loss
from fedmosaic.training.optimiser import Optimiser, ParameterGroup

MODEL = "miniature/llama-8x96"


def examples() -> list[Example]:
    """Return questions of different lengths, with images."""
    draw = np.random.default_rng(0)
    found = []
    for number in range(4):
        turns = (Turn("user", "<image>\nwhat is it" + " now" * number), Turn("assistant", "blue"))
        pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        found.append(Example(str(number), turns, (Image(pixels),)))
    return found


def what_waits(device: torch.device) -> str:
    """Train a miniature model on a card; return why a step waits for it, or nothing."""
    backbone = Backbone.load(MODEL, ModelOptions(device=str(device)))
    model = build_pair(backbone.fork(), CoLoraConfig(r=4, num_blocks=2)).train()
    optimiser = Optimiser(
        [ParameterGroup("shared", adapter_parameters(model, "local", gates=False))],
        TrainSettings(moment_shared="tensor"),
    )
    encoded = [backbone.encode(example) for example in examples()]

    def step() -> None:
        answer_loss(model, backbone, backbone.collate(encoded)).backward()
        optimiser.step(1.0)

    step()  # computes features of images, and loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    except RuntimeError as error:
        return str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""
