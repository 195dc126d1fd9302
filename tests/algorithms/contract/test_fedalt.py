"""Check FedALT's client half: mixing at every token, and what is trained and what is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from tiny_federation import CLIENTS, RecordedFederation
from torch import Tensor
from two_adapters import NO_DROPOUT, batch_of, randomise

from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.adapters.mixer import token_mixer
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.evaluation import evaluate
from fedmosaic.evaluation.shared_check import takes_trees

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
BOTH = ("local", "global")


def lora_layers(model: Any) -> list[Any]:
    return [layer for layer in model.modules() if isinstance(layer, LoraLayer)]


def plain_scales(model: Any) -> bool:
    return {scale for layer in lora_layers(model) for scale in layer.scaling.values()} == {2.0}


@torch.no_grad()
def test_every_token_has_weights_of_its_own(tmp_path: Path) -> None:
    federation = RecordedFederation("fedalt", tmp_path / "run", adapter=NO_DROPOUT)
    client = federation.client("a")
    randomise(client.model, BOTH)
    layer = lora_layers(client.model)[3]
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0))
    mixer = token_mixer(layer)
    assert mixer is not None
    shares = (x.double() @ mixer.weights["local"].double().T).softmax(-1)
    assert shares[..., 0].std() > 0.05
    change: dict[str, Tensor] = {
        name: 2.0
        * x.double()
        @ layer.lora_A[name].weight.double().T
        @ layer.lora_B[name].weight.double().T
        for name in BOTH
    }
    bare = layer.base_layer(x).double()
    with client.turn(trains=False), federation.algorithm.view(client.context, "mixed"):
        randomise(client.model, BOTH)
        expected = bare + shares[..., :1] * change["local"] + shares[..., 1:] * change["global"]
        assert torch.allclose(layer(x).double(), expected, atol=1e-5)
        for name in BOTH:
            with federation.algorithm.view(client.context, name):
                assert torch.allclose(layer(x).double(), bare + change[name], atol=1e-5)
        assert plain_scales(client.model)
        with pytest.raises(RuntimeError):
            layer(torch.randn(2, layer.in_features + 1))
        assert plain_scales(client.model)


def test_the_rest_of_the_world_is_frozen_and_the_mixer_trained(tmp_path: Path) -> None:
    federation = RecordedFederation("fedalt", tmp_path / "run", rounds=2).run()
    client = federation.client("a")
    received = federation.downloads[1]["a"].tensors
    assert received.keys() == federation.updates[0]["c"].tensors.keys()
    assert not federation.downloads[1]["b"].tensors, "no other client has its model"
    assert all(
        torch.equal(value, federation.updates[0]["c"].tensors[key])
        for key, value in received.items()
    )
    with client.turn(trains=False):
        state = read_state(client.model, "global")
        assert all(torch.equal(state[key], value) for key, value in received.items())
        own = read_state(client.model, "local", gates=True)
    gates = [key for key in own if key.startswith("gate.")]
    fresh = client.adapted.fresh
    assert len(gates) == len(lora_layers(client.model))
    for key in gates:
        assert not torch.equal(client._adapters[f"local/{key}"], fresh[f"local/{key}"]), key
    other = federation.client("c")
    key = f"local/{gates[0]}"
    assert not torch.equal(client._adapters[key], other._adapters[key])
    assert torch.equal(fresh[key], other.adapted.fresh[key])
    # Nothing replaces what is trained, so Adam goes on.
    assert client._moments["step"].unique().tolist() == [4.0]


def test_after_an_evaluation_of_one_adapter_both_and_the_mixer_train(tmp_path: Path) -> None:
    federation = RecordedFederation("fedalt", tmp_path / "run", CLIENTS[::2], rounds=1).run()
    client = federation.client("a")
    gate = next(key for key in client._adapters if "/gate." in key)
    before = client._adapters[gate]
    with client.turn():
        for name in federation.algorithm.views:
            with federation.algorithm.view(client.context, name):
                pass
        activate(client.model, {"local": 1.0})  # as an evaluation that freezes it would
        client.stream.begin_round(1)
        federation.algorithm.train(client.context)
        trained = {
            name: [p.requires_grad for p in adapter_parameters(client.model, name).values()]
            for name in BOTH
        }
    assert all(trained["local"]) and not any(trained["global"])
    assert not torch.equal(client._adapters[gate], before)


def test_questions_that_share_a_prompt_are_answered_as_one_by_one(tmp_path: Path) -> None:
    federation = RecordedFederation("fedalt", tmp_path / "run")
    client = federation.client("a")
    examples = client.stream.tasks[0].train
    with client.turn(trains=False):
        randomise(client.model, BOTH)
        with federation.algorithm.view(client.context, "mixed") as model:
            assert takes_trees(model), "weights of a token depend on that token alone"
            scores = [
                evaluate(client.backbone, model, examples, method="likelihood", batch_size=n).values
                for n in (1, 4)
            ]
            batch = batch_of(client)
            with torch.no_grad():
                mixed = model(**batch.inputs).logits
        activate(client.model, {"local": 0.5, "global": 0.5})
        lora = [layer for layer in lora_layers(client.model) if token_mixer(layer)]
        with torch.no_grad():
            still = client.model(**batch.inputs).logits
    assert lora and scores[0] == scores[1]
    assert not torch.allclose(mixed, still, atol=1e-3)
