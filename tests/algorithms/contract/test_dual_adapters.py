"""What the algorithms with two adapters do with them: who teaches whom, at which positions, and how adapters are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from tiny_federation import CLIENTS, SCENARIO, RecordedFederation, tiny_backbone
from torch import Tensor, nn
from torch.nn import functional

from fedmosaic.adapters import adapter_parameters, read_state, write_state
from fedmosaic.algorithms import perada
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.feddpa import REFERENCES, InstanceWise, represent
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import ConfigError
from fedmosaic.evaluation import evaluate, generate
from fedmosaic.evaluation.likelihood import append_answer, log_likelihoods
from fedmosaic.models.backbone import Batch
from fedmosaic.training.optimiser import Optimiser

NO_DROPOUT = {**SCENARIO["adapter"], "dropout": 0.0}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@contextmanager
def first_gradients() -> Iterator[dict[int, Tensor]]:
    """The gradients of the first optimiser step taken inside, by the parameter's id."""
    found: dict[int, Tensor] = {}
    step = Optimiser.step

    def watched(self: Optimiser, factor: float) -> None:
        if not found:
            found.update({id(p): p.grad.clone() for p in self.parameters if p.grad is not None})
        step(self, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimiser, "step", watched)
        yield found


@torch.no_grad()
def randomise(model: Any, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        noise = torch.Generator().manual_seed(seed)
        for parameter in adapter_parameters(model, name).values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=noise))


def said(model: Any, backbone: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and labels where labels are predicted, from all logits: those at t predict the token at t + 1."""
    output = model(
        inputs_embeds=backbone.embed(batch), attention_mask=batch.attention_mask, use_cache=False
    )
    rows, columns = (batch.labels[:, 1:] != -100).nonzero(as_tuple=True)
    return output.logits[rows, columns], batch.labels[rows, columns + 1]


def batch_of(client: Any, start: int = 0, count: int = 2, answer: bool = True) -> Batch:
    backbone = client.backbone
    examples = client.tasks[0].train[start : start + count]
    found: Batch = backbone.collate([backbone.encode(example, answer) for example in examples])
    return found


def kl(p_logits: Tensor, q_logits: Tensor, temperature: float) -> Tensor:
    """T² mean Σ p (log p − log q), written out."""
    p, q = ((z.double() / temperature).softmax(-1) for z in (p_logits, q_logits))
    return temperature**2 * (p * (p.log() - q.log())).sum(-1).mean()


# --- mixtures ---------------------------------------------------------------------------------------------------------
def test_a_mixture_is_the_sum_of_scaled_changes(tmp_path: Path) -> None:
    federation = RecordedFederation("ditto", tmp_path / "run")
    client = federation.client("a")
    model, batch = client.model, batch_of(client)
    randomise(model, ("local", "global"))
    activate(model, {"local": 0.3, "global": 0.7})
    mixed, _ = said(model, client.backbone, batch)
    merged = client.backbone.fork()
    state = {name: read_state(model, name) for name in ("local", "global")}
    for path, module in merged.named_modules():
        key = (
            f"layer.{path.split('.')[-3]}.{path.split('.')[-1]}"
            if "layers" in path and path.endswith("proj")
            else ""
        )
        if key and "language_model" in path:
            change = sum(
                factor * 2.0 * state[name][f"{key}.B"] @ state[name][f"{key}.A"]
                for name, factor in (("local", 0.3), ("global", 0.7))
            )
            module.weight = nn.Parameter(module.weight.detach() + change)
    expected, _ = said(merged, client.backbone, batch)
    base, _ = said(client.backbone.model, client.backbone, batch)
    assert torch.allclose(mixed, expected, atol=1e-4) and not torch.allclose(mixed, base, atol=1e-2)
    activate(model, {"global": 1.0}, train=("global",))
    assert all(p.requires_grad for p in adapter_parameters(model, "global").values())
    assert not any(p.requires_grad for p in adapter_parameters(model, "local").values())
    activate(model, {"local": 0.3, "global": 0.7}, train=("local",))
    assert not any(p.requires_grad for p in adapter_parameters(model, "global").values()), (
        "active, but not trained"
    )


@pytest.mark.parametrize("name", ["ditto", "feddat", "feddpa", "fedsim"])
def test_activation_checkpointing_changes_nothing(tmp_path: Path, name: str) -> None:
    changes = {"adapter": NO_DROPOUT, "rounds": 2}
    plain = RecordedFederation(name, tmp_path / "plain", CLIENTS[:1], **changes).run()
    checkpointed = RecordedFederation(
        name,
        tmp_path / "checkpointed",
        CLIENTS[:1],
        models={"gradient_checkpointing": True},
        **changes,
    ).run()
    for key, value in plain.client("a")._adapters.items():
        assert torch.allclose(checkpointed.client("a")._adapters[key], value, atol=1e-5), key


def test_where_two_adapters_start(tmp_path: Path) -> None:
    starts = {
        name: RecordedFederation(name, tmp_path / name).client("a").adapted.fresh
        for name in ("ditto", "fedsim", "feddat")
    }
    key = "layer.0.q_proj.A"
    # Ditto's personal model begins as the common one; two adapters that are added up would stay equal if they began so.
    assert torch.equal(starts["ditto"][f"local/{key}"], starts["ditto"][f"global/{key}"])
    assert not torch.equal(starts["fedsim"][f"local/{key}"], starts["fedsim"][f"global/{key}"])
    assert torch.equal(starts["feddat"][f"received/{key}"], starts["feddat"][f"global/{key}"])


# --- FedDAT -----------------------------------------------------------------------------------------------------------
def test_feddat_teaches_both_ways_at_the_labels(tmp_path: Path) -> None:
    options = {"weight": 0.7, "temperature": 2.0}
    changes = {
        "adapter": NO_DROPOUT,
        "algorithms": {"feddat": options},
        "train": {**SCENARIO["train"], "clip": 0.0},
    }
    client = RecordedFederation("feddat", tmp_path / "run", CLIENTS[:1], **changes).client("a")
    model, backbone = client.model, client.backbone
    seen: list[Any] = []
    collate = backbone.collate
    with client.turn(), pytest.MonkeyPatch.context() as patch:
        randomise(model, ("local", "global", "received"))
        patch.setattr(backbone, "collate", lambda items: seen.append(collate(items)) or seen[-1])
        start = {name: read_state(model, name) for name in ("local", "global", "received")}
        client.stream.begin_round(0)
        with first_gradients() as found:
            client.runtime.algorithm.train(client)
        assert all(
            torch.equal(value, start["received"][key])
            for key, value in read_state(model, "received").items()
        )
        for name, state in start.items():
            write_state(model, name, state)

        activate(model, {"local": 0.5, "received": 0.5}, train=("local",))
        teacher, labels = said(model, backbone, seen[0])
        local = adapter_parameters(model, "local")
        activate(model, {"global": 1.0})
        student = said(model, backbone, seen[0])[0].detach()
        activate(model, {"local": 0.5, "received": 0.5}, train=("local",))
        taught = functional.cross_entropy(teacher, labels) + 0.7 * kl(student, teacher, 2.0)
        for parameter, gradient in zip(
            local.values(), torch.autograd.grad(taught, list(local.values())), strict=True
        ):
            assert torch.allclose(found[id(parameter)], gradient, rtol=1e-3, atol=1e-6)

        activate(model, {"global": 1.0}, train=("global",))
        student, _ = said(model, backbone, seen[0])
        shared = adapter_parameters(model, "global")
        taught = functional.cross_entropy(student, labels) + 0.7 * kl(
            teacher.detach(), student, 2.0
        )
        for parameter, gradient in zip(
            shared.values(), torch.autograd.grad(taught, list(shared.values())), strict=True
        ):
            assert torch.allclose(found[id(parameter)], gradient, rtol=1e-3, atol=1e-6)


# --- PerAda -----------------------------------------------------------------------------------------------------------
TWINS = [{**CLIENTS[0], "name": name} for name in ("a", "c")]


class Distillation:
    """A PerAda server between rounds, two clients' updates, and the losses of its distillation."""

    def __init__(self, path: Path, alike: bool = False, **options: float) -> None:
        self.federation = RecordedFederation("perada", path, TWINS, algorithms={"perada": options})
        self.client = self.federation.client("a")
        self.updates: dict[str, Message] = {}
        for seed, name in enumerate(("a", "c")):
            noise = torch.Generator().manual_seed(0 if alike else seed)
            start = read_state(self.client.model, "global").items()
            state = {
                key: value + 0.1 * torch.randn(value.shape, generator=noise) for key, value in start
            }
            self.updates[name] = Message(state)
        self.losses: list[float] = []

    def average(self) -> dict[str, Tensor]:
        kl_divergence = perada.kl_divergence
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                perada,
                "kl_divergence",
                lambda *a: self.losses.append(float(kl_divergence(*a))) or kl_divergence(*a),
            )
            self.federation.algorithm.aggregate(self.federation.server, self.updates)
        return dict(
            self.federation.algorithm.download(
                self.federation.server, self.federation.server.members[0]
            ).tensors
        )

    @torch.no_grad()
    def speak(self, state: Any, batch: Batch) -> Tensor:
        with self.client.turn():
            write_state(self.client.model, "global", state)
            activate(self.client.model, {"global": 1.0})
            return said(self.client.model, self.client.backbone, batch)[0]


def test_perada_distils_the_mean_of_the_logits_into_the_mean_of_the_weights(tmp_path: Path) -> None:
    mean = Distillation(tmp_path / "mean", server_steps=0).average()
    server = Distillation(tmp_path / "student", server_steps=30, server_lr=3e-3)
    student = server.average()
    uploads = [update.tensors for update in server.updates.values()]
    assert all(
        torch.allclose(value, (uploads[0][key] + uploads[1][key]) / 2, atol=1e-6)
        for key, value in mean.items()
    )

    backbone, public = server.client.backbone, server.federation.runtime.public()
    batch = backbone.collate([backbone.encode(example) for example in public])
    ensemble = torch.stack([server.speak(state, batch) for state in uploads]).mean(0)
    before, after = (
        float(kl(ensemble, server.speak(state, batch), 1.0)) for state in (mean, student)
    )
    assert 0 < after < before / 2
    # The first step's loss is the mean's on its batch, two of the four examples.
    instruction = torch.randperm(
        len(public), generator=server.federation.server.generator("public batches of tiny/llama")
    ).tolist()
    batch = backbone.collate([backbone.encode(public[index]) for index in instruction[:2]])
    ensemble = torch.stack([server.speak(state, batch) for state in uploads]).mean(0)
    assert server.losses[0] == pytest.approx(
        float(kl(ensemble, server.speak(mean, batch), 1.0)), rel=1e-3
    )


def test_perada_has_nothing_to_distil_from_one_client(tmp_path: Path) -> None:
    federation = RecordedFederation("perada", tmp_path / "run", TWINS[:1], rounds=1).run()
    sent = federation.algorithm.download(federation.server, federation.server.members[0]).tensors
    assert all(
        torch.equal(value, federation.updates[0]["a"].tensors[key]) for key, value in sent.items()
    )


def test_equal_teachers_teach_nothing(tmp_path: Path) -> None:
    server = Distillation(tmp_path / "run", alike=True, server_steps=1)
    server.average()
    assert len(server.losses) == 1 and abs(server.losses[0]) < 1e-6


def test_perada_says_that_it_needs_public_examples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.public"):
        RecordedFederation("perada", tmp_path / "run", data={**SCENARIO["data"], "public": "none"})


# --- FedDPA -----------------------------------------------------------------------------------------------------------
def test_a_prompt_is_represented_by_its_last_token(tmp_path: Path) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run")
    client = federation.client("a")
    model, backbone = client.model, client.backbone
    randomise(model, ("local", "received"))
    activate(model, {"local": 1.0})
    examples = [federation.client(name).tasks[0].train[0] for name in ("a", "b", "c")]
    prompts = backbone.collate([backbone.encode(example, answer=False) for example in examples])
    assert prompts.attention_mask.sum(1).unique().numel() > 1, (
        "prompts of different lengths are needed here"
    )
    found = represent(model, backbone, prompts)
    output = model(
        inputs_embeds=backbone.embed(prompts),
        attention_mask=prompts.attention_mask,
        output_hidden_states=True,
    )
    assert torch.allclose(found, output.hidden_states[-1][:, -1], atol=1e-5)
    answered = backbone.collate([backbone.encode(example) for example in examples])
    assert torch.allclose(represent(model, backbone, answered), found, atol=1e-4)
    options = [
        append_answer(backbone, examples[0], text) for text in ("yes", "a dark red circle of stone")
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
                said_at_end(model, backbone, batch_of(client, start=row, count=1, answer=False))
            )
        with federation.algorithm.view(client, "mixed") as mixed:
            assert isinstance(mixed, InstanceWise)
            mixed.prepare(prompts)
            found = said_at_end(mixed, backbone, prompts)
        assert torch.allclose(found, torch.cat(expected), atol=1e-4)
        scales = {
            layer.scaling["received"] for layer in model.modules() if isinstance(layer, LoraLayer)
        }
        assert scales == {2.0} and model.active_adapters == ["received"]


@torch.no_grad()
def said_at_end(model: Any, backbone: Any, batch: Batch) -> Tensor:
    output = model(
        inputs_embeds=backbone.embed(batch), attention_mask=batch.attention_mask, use_cache=False
    )
    found: Tensor = output.logits[:, -1]
    return found


@pytest.mark.parametrize("method", ["likelihood", "generation"])
def test_feddpa_scores_do_not_depend_on_the_company(tmp_path: Path, method: Any) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run", rounds=1).run()
    client = federation.client("a")
    examples = client.tasks[0].train
    with client.turn():
        randomise(client.model, ("local", "received"))
        with federation.algorithm.view(client, "mixed") as model:
            scores = [
                evaluate(client.backbone, model, examples, method=method, batch_size=n).values
                for n in (1, 4)
            ]
            texts = [
                generate(client.backbone, model, examples, batch_size=n, max_new_tokens=6)
                for n in (1, 4)
            ]
        with federation.algorithm.view(client, "local") as model:
            other = generate(client.backbone, model, examples, batch_size=4, max_new_tokens=6)
    assert scores[0] == scores[1] and texts[0] == texts[1] != other


def test_feddpa_weighs_options_of_several_tokens_by_their_prompt(tmp_path: Path) -> None:
    federation = RecordedFederation("feddpa", tmp_path / "run", rounds=1).run()
    client = federation.client("a")
    backbone, first = client.backbone, client.tasks[0].train[0]
    items = [
        append_answer(backbone, first, text) for text in ("dark red", "a dark red circle", "blue")
    ]
    with client.turn():
        randomise(client.model, ("local", "received"))
        with federation.algorithm.view(client, "mixed") as model:
            generate(
                backbone, model, list(client.tasks[0].train[1:3]), max_new_tokens=1
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
    with client.turn(), federation.algorithm.view(client, "mixed") as model:
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


def test_backbones_stay_bare() -> None:
    for name in ("tiny/llama", "tiny/qwen2"):
        assert not any("lora" in key for key, _ in tiny_backbone(name).model.named_modules())
