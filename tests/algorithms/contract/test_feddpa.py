"""Check FedDPA: representations, weights of each input, and how scores come about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from tiny_federation import CLIENTS, SCENARIO, RecordedFederation
from torch import Tensor
from torch.nn import functional
from two_adapters import batch_of, randomise

from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.feddpa import REFERENCES, InstanceWise, represent
from fedmosaic.evaluation import evaluate, generate
from fedmosaic.evaluation.plain_questions import log_likelihoods
from fedmosaic.models.backbone import Batch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_a_prompt_is_represented_by_its_last_token(tmp_path: Path) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run")
    client = federation.client("a")
    model, backbone = client.model, client.backbone
    randomise(model, ("local", "received"))
    activate(model, {"local": 1.0})
    examples = [federation.client(name).stream.tasks[0].train[0] for name in ("a", "b", "c")]
    prompts = backbone.collate([backbone.encode(example, answer=False) for example in examples])
    assert prompts.attention_mask.sum(1).unique().numel() > 1, (
        "prompts of different lengths are needed here"
    )
    found = represent(model, backbone, prompts)
    output = model(
        **prompts.inputs,
        output_hidden_states=True,
    )
    assert torch.allclose(found, output.hidden_states[-1][:, -1], atol=1e-5)
    answered = backbone.collate([backbone.encode(example) for example in examples])
    assert torch.allclose(represent(model, backbone, answered), found, atol=1e-4)
    options = [
        backbone.encode_option(examples[0], text) for text in ("yes", "a dark red circle of stone")
    ]
    one, two = represent(model, backbone, backbone.collate(options))
    assert torch.allclose(one, found[0], atol=1e-4) and torch.allclose(two, found[0], atol=1e-4)


def test_feddpa_weighs_every_input_by_its_likeness(tmp_path: Path) -> None:
    federation = RecordedFederation(
        "feddpa", tmp_path / "run", rounds=1, algorithms={"feddpa": {"instances": 3, "lam": 0.8}}
    ).run()
    client = federation.client("a")
    model, backbone = client.model, client.backbone
    references = client.state[REFERENCES]
    assert references.shape == (3, backbone.hidden_size)
    with client.turn():
        randomise(model, ("local", "received"))
        prompts = batch_of(client, count=3, answer=False)
        activate(model, {"local": 1.0})
        seen = represent(model, backbone, prompts)
        cosines = [
            [float(functional.cosine_similarity(e, r, dim=0)) for r in references] for e in seen
        ]
        alphas = [0.8 * sum(row) / 3 for row in cosines]
        assert max(alphas) - min(alphas) > 1e-3
        expected = []
        for row, alpha in enumerate(alphas):
            activate(model, {"local": alpha, "received": 1 - alpha})
            expected.append(
                end_logits(model, backbone, batch_of(client, start=row, count=1, answer=False))
            )
        with federation.algorithm.view(client.context, "mixed") as mixed:
            assert isinstance(mixed, InstanceWise)
            mixed.prepare(prompts)
            found = end_logits(mixed, backbone, prompts)
        assert torch.allclose(found, torch.cat(expected), atol=1e-4)
        scales = {
            layer.scaling["received"] for layer in model.modules() if isinstance(layer, LoraLayer)
        }
        assert scales == {2.0} and model.active_adapters == ["received"]


@torch.no_grad()
def end_logits(model: Any, backbone: Any, batch: Batch) -> Tensor:
    output = model(**batch.inputs, use_cache=False)
    found: Tensor = output.logits[:, -1]
    return found


@pytest.mark.parametrize("method", ["likelihood", "generation"])
def test_feddpa_scores_do_not_depend_on_the_company(tmp_path: Path, method: Any) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run", rounds=1).run()
    client = federation.client("a")
    examples = client.stream.tasks[0].train
    with client.turn():
        randomise(client.model, ("local", "received"))
        with federation.algorithm.view(client.context, "mixed") as model:
            scores = [
                evaluate(client.backbone, model, examples, method=method, batch_size=n).values
                for n in (1, 4)
            ]
            texts = [
                generate(client.backbone, model, examples, batch_size=n, max_new_tokens=6)
                for n in (1, 4)
            ]
        with federation.algorithm.view(client.context, "local") as model:
            other = generate(client.backbone, model, examples, batch_size=4, max_new_tokens=6)
    assert scores[0] == scores[1] and texts[0] == texts[1] != other


def test_feddpa_weighs_options_of_several_tokens_by_their_prompt(tmp_path: Path) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run", rounds=1).run()
    client = federation.client("a")
    backbone, first = client.backbone, client.stream.tasks[0].train[0]
    items = [
        backbone.encode_option(first, text) for text in ("dark red", "a dark red circle", "blue")
    ]
    with client.turn():
        randomise(client.model, ("local", "received"))
        with federation.algorithm.view(client.context, "mixed") as model:
            generate(
                backbone, model, list(client.stream.tasks[0].train[1:3]), max_new_tokens=1
            )  # weights of other prompts
            found = log_likelihoods(backbone, model, items)
            model.prepare(backbone.collate([backbone.encode(first, answer=False)] * 3))
            scales = {
                id(layer): dict(layer.scaling)
                for layer in client.model.modules()
                if isinstance(layer, LoraLayer)
            }
        activate(client.model, {"local": 1.0, "received": 1.0})
        for layer in client.model.modules():
            if isinstance(layer, LoraLayer):
                layer.scaling.update(scales[id(layer)])
        expected = log_likelihoods(backbone, client.model, items)
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_client_that_never_trained_uses_what_it_received(tmp_path: Path) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run")
    client = federation.client("a")
    with client.turn(), federation.algorithm.view(client.context, "mixed") as model:
        assert not isinstance(model, InstanceWise) and model.active_adapters == ["received"]


@pytest.mark.parametrize("steps", [1, 3])
def test_feddpa_divides_its_steps(tmp_path: Path, steps: int) -> None:
    changes = {"train": {**SCENARIO["train"], "steps": steps}, "rounds": 1}
    federation = RecordedFederation("feddpa", tmp_path / "run", CLIENTS[:1], **changes).run()
    line = next(line for line in federation.folder.lines() if line["kind"] == "client")
    assert line["steps"] == steps
    moments = federation.client("a")._moments["step"]
    half = len(moments) // 2
    assert moments[:half].unique().tolist() == [steps - steps // 2]  # the global adapter's
    assert moments[half:].unique().tolist() == [steps // 2]
