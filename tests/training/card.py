"""Train a client on a pretended card, and fail where a step waits for it.

The card is a device of torch without memory: its tensors have shapes and types, but no values. So
reading a value fails, and so does mixing tensors of the card with others. Tensors in main memory
are real. What waits for a real card without reading a value fails too: a copy that is not said to
be non-blocking.

It changes torch for the whole process, so it is run as a script: ``python card.py ALGORITHM``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as trees
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.federation import context
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.host import answer_on_host
from fedmosaic.training import loop, optimiser
from fedmosaic.training.optimiser import Optimiser
from tiny_scenario import TINY

CARD = "card"
aten = torch.ops.aten


class Waits(RuntimeError):
    """Say that the program would wait for the card."""


class Card(FakeTensorMode):
    """Run what concerns the card without values, and everything else as usual."""

    watching = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = trees.tree_leaves((args, kwargs))
        fake = [leaf for leaf in leaves if isinstance(leaf, FakeTensor)]
        if not fake and not any(getattr(leaf, "type", "") == CARD for leaf in leaves):
            return func(*args, **kwargs)
        if self.watching and self._copies(func, args, kwargs) and _blocks(func, args, kwargs):
            raise Waits(f"{func} copies between main memory and the card, and waits for it")
        args, kwargs = trees.tree_map_only(torch.Tensor, self._without_values, (args, kwargs))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _without_values(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.from_tensor(tensor)

    def _copies(self, func: Any, args: Any, kwargs: Any) -> bool:
        """Return whether this copies between main memory and the card."""
        if func is aten.copy_.default:
            return args[0].device != args[1].device
        target = kwargs.get("device")
        return func is aten._to_copy.default and target is not None and target != args[0].device


def _blocks(func: Any, args: Any, kwargs: Any) -> bool:
    if func is aten.copy_.default and len(args) > 2:
        return not args[2]
    return not kwargs.get("non_blocking")


def move(held: Any) -> None:
    """Move the tensors that an object holds to the card."""
    for name, value in vars(held).items():
        if isinstance(value, torch.Tensor):
            setattr(held, name, value.to(CARD))


def train(algorithm: str, **changes: Any) -> None:
    """Train a client of the tiny scenario on the card for three steps."""
    scenario = Scenario.model_validate({**TINY, **changes, "clients": TINY["clients"][:1]})
    runtime = Runtime(RunSettings(name="card", algorithm=algorithm, scenario=scenario))
    client = LocalClient(runtime, scenario.clients[0])
    with client.turn():  # on the CPU: signature model and features of images
        client.stream.begin_round(0)
        client.trained()
    for task in client.stream.tasks:
        backbone = client.backbone
        backbone.collate([backbone.encode(example) for example in task.train])
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with Card(allow_non_fake_inputs=True) as card:
        for model in (client.model, client.backbone.model):
            answer_on_host(model.to(CARD))
        for value in runtime._cached.values():
            move(value)
            value.norm = value.norm.to(CARD)
        groups = client.algorithm.parameters(client.model)
        client.adapted.optimiser = Optimiser(groups, scenario.train)
        client.stream.begin_round(1)

        def watched(*args: Any, **kwargs: Any) -> Any:
            card.watching = True
            report = loop.fit(*args, **kwargs)
            card.watching = False
            return report

        context.fit = watched
        loop.mean_loss = lambda losses: 0.0  # once, after the steps
        client.context.state = {}
        client.algorithm.train(client.context)


if __name__ == "__main__":
    _setup_privateuseone_for_python_backend(CARD)
    optimiser.FUSED = ("cpu", "cuda", CARD)
    torch.set_num_threads(1)
    train(
        sys.argv[1],
        train={**TINY["train"], "moment_shared": "tensor"},
        relevance={"every": 1, "model": "miniature/llama-8x96"},
    )
    print("never waited")
