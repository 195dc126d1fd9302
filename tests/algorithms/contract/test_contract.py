"""Check the behavioural contract of every algorithm, variant and preset.

``promises.py`` lists what an algorithm promises beyond what holds for all: it trains equal and
different architectures, all numbers are finite, messages have the tensors that were declared, gates
never travel, the order of the clients does not matter, an absent client does not change, a resumed
run is bit-identical, and saved adapters give the same logits.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PeftType
from promises import (
    ALGORITHMS,
    COSINE,
    INDEPENDENT,
    LANDS_IN,
    LEAVES_OUT_THE_RECEIVER,
    NO_EXPORT,
    PERSONAL,
)
from tiny_federation import CLIENTS, RecordedFederation, adapters_of, client_turn, logits
from torch import Tensor

import fedmosaic
from fedmosaic.adapters import activate, adapter_parameters
from fedmosaic.algorithms.common.activation import activate as activate_lora
from fedmosaic.algorithms.message import sent_in_round
from fedmosaic.errors import ModelError
from fedmosaic.federation.wire import pack, read_tensors, schema_of
from fedmosaic.training.optimiser import Optimiser

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module", params=ALGORITHMS)
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RecordedFederation:
    """Run two rounds of three clients of two architectures, recording the schedule's factors."""
    federation = RecordedFederation(
        request.param, tmp_path_factory.mktemp(request.param) / "run", train=COSINE
    )
    federation.factors = {0: [], 1: []}
    step = Optimiser.step

    def watched(self: Optimiser, factor: float) -> None:
        federation.factors[federation.server.round].append(factor)
        step(self, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimiser, "step", watched)
        return federation.run()


def personal(federation: RecordedFederation, key: str) -> bool:
    return "/gate." in key or PERSONAL.get(federation.name, lambda _: False)(key)


@torch.no_grad()
def perturb_personal(federation: RecordedFederation, client: Any) -> bool:
    """Add noise to all personal tensors in the model; return whether there are any."""
    found = False
    for name in federation.algorithm.adapters:
        for key, parameter in adapter_parameters(client.model, name).items():
            if personal(federation, f"{name}/{key}"):
                parameter.add_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                )
                found = True
    return found


def test_different_architectures_train_and_all_is_finite(ran: RecordedFederation) -> None:
    lines = ran.folder.lines()
    assert [line["refused"] for line in lines if line["kind"] == "round"] == [{}, {}]
    scores = [line for line in lines if line["kind"] == "score"]
    assert {line["client"] for line in scores} == {"a", "b", "c"}
    assert {line["view"] for line in scores} == {"mixed", "local", "global"} & set(
        ran.algorithm.all_views()
    )
    assert all(0 <= line["value"] <= 1 for line in scores)
    for name, client in ran.clients.items():
        tensors, _ = read_tensors(
            ran.folder.checkpoints / "round-0002" / "clients" / f"{name}.safetensors"
        )
        assert all(bool(torch.isfinite(value).all()) for value in tensors.values()), name
        changed = [
            key
            for key, value in client.adapted.fresh.items()
            if not torch.equal(tensors[f"adapter/{key}"], value)
        ]
        assert changed, f"nothing was learned at {name}"
    messages = itertools.chain(*(found.values() for found in (*ran.downloads, *ran.updates)))
    assert all(
        bool(torch.isfinite(value).all())
        for message in messages
        for value in message.tensors.values()
    )


def test_schedules_fall_over_the_whole_run(ran: RecordedFederation) -> None:
    """Check clients and server: half a cosine over two rounds, not one a round."""
    first, second = ran.factors[0], ran.factors[1]
    assert first and second and max(first) == 1.0
    assert min(first) > 0.5 >= max(second) and min(second) > 0


def test_the_learning_rate_counts(ran: RecordedFederation) -> None:
    """Check that ``train.lr``, which comparisons choose for each algorithm, is used by each."""
    for name, client in ran.clients.items():
        assert "lora" in {group.role for group in client.adapted.optimiser.groups}, name


def test_one_architecture_trains(ran: RecordedFederation, tmp_path: Path) -> None:
    clients = [{**client, "model": "tiny/qwen2"} for client in CLIENTS]
    federation = RecordedFederation(ran.name, tmp_path / "run", clients, rounds=1).run()
    assert len(federation.updates[0]) == 3
    assert all(
        bool(torch.isfinite(v).all())
        for m in federation.updates[0].values()
        for v in m.tensors.values()
    )


def test_only_what_was_declared_travels(ran: RecordedFederation) -> None:
    for number, updates in enumerate(ran.updates):
        for name, update in updates.items():
            declared = ran.loop.schemas[name]
            expected = sent_in_round(declared, ran.algorithm.alternates, number)
            assert schema_of(update) == expected, name
            assert expected == declared or ran.algorithm.alternates
    for message in itertools.chain(*(found.values() for found in (*ran.downloads, *ran.updates))):
        assert not [key for key in message.tensors if "gate." in key]
    assert all(not message.tensors for message in ran.downloads[0].values()), (
        "the first round has nothing to send"
    )


def test_personal_tensors_are_not_in_what_leaves(ran: RecordedFederation) -> None:
    for name in ran.clients:
        with client_turn(ran, name) as client:
            sent = pack(ran.algorithm.upload(client.context))
            if not perturb_personal(ran, client):
                pytest.skip("nothing is declared personal")
            assert pack(ran.algorithm.upload(client.context)) == sent


def test_downloads_leave_personal_tensors_alone(ran: RecordedFederation) -> None:
    for member in ran.server.members:
        with client_turn(ran, member.name) as client:
            perturb_personal(ran, client)
            before = adapters_of(client)
            ran.algorithm.receive(client.context, ran.algorithm.download(ran.server, member))
            after = adapters_of(client)
            assert all(
                torch.equal(after[key], value)
                for key, value in before.items()
                if personal(ran, key)
            )


def test_personal_tensors_do_not_influence_what_is_trained_for_others(
    ran: RecordedFederation, tmp_path: Path
) -> None:
    if ran.name not in INDEPENDENT:
        pytest.skip("not promised")
    other = ran.restarted(tmp_path / "restarted")
    for client in other.clients.values():
        with client.turn():
            assert perturb_personal(other, client)
    other.run()
    for name, update in other.updates[0].items():
        assert pack(update) == pack(ran.updates[1][name]), name


def test_what_was_sent_is_what_training_starts_from(
    ran: RecordedFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ran.name not in LANDS_IN:
        pytest.skip("not promised")
    kind, train = type(ran.algorithm), type(ran.algorithm).train
    starts: dict[str, dict[str, Tensor]] = {}

    def watched(self: Any, client: Any) -> Any:
        starts[client.name] = adapters_of(client._client)
        return train(self, client)

    other = ran.restarted(tmp_path / "restarted")
    monkeypatch.setattr(kind, "train", watched)
    other.run()
    for name, download in other.downloads[0].items():
        weights = {
            key: value
            for key, value in download.tensors.items()
            if key.startswith(("layer.", "block."))
        }
        single = sum(c["model"] == other.client(name).spec.model for c in CLIENTS) == 1
        assert bool(weights) != (single and ran.name in LEAVES_OUT_THE_RECEIVER), name
        for adapter in LANDS_IN[ran.name]:
            assert all(
                torch.equal(starts[name][f"{adapter}/{key}"], value)
                for key, value in weights.items()
            ), name


def test_the_order_of_clients_does_not_matter(ran: RecordedFederation, tmp_path: Path) -> None:
    other = RecordedFederation(ran.name, tmp_path / "run", CLIENTS[::-1], train=COSINE).run()
    for name in ran.clients:
        assert pack(other.updates[0][name]) == pack(ran.updates[0][name])
        for one, two, tolerance in (
            (ran.downloads[1], other.downloads[1], 1e-5),
            (ran.updates[1], other.updates[1], 1e-3),
        ):
            assert one[name].tensors.keys() == two[name].tensors.keys()
            for key, value in one[name].tensors.items():
                assert torch.allclose(
                    value.float(), two[name].tensors[key].float(), atol=tolerance
                ), (name, key)


def test_an_absent_client_stays_as_it_is(
    ran: RecordedFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ran.restarted(tmp_path / "restarted")
    monkeypatch.setattr(other.loop, "participants", lambda _: ["a", "b"])
    other.run()
    states = [
        read_tensors(other.folder.checkpoints / f"round-000{rounds}" / "clients" / "c.safetensors")[
            0
        ]
        for rounds in (1, 2)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert set(other.updates[0]) == {"a", "b"} and set(other.downloads[0]) == {"a", "b", "c"}
    for name in ("a", "b"):
        assert pack(other.updates[0][name]) == pack(ran.updates[1][name]), (
            "an absent client changed what others trained"
        )


def test_a_resumed_run_goes_on_bit_by_bit(ran: RecordedFederation, tmp_path: Path) -> None:
    resumed = ran.restarted(tmp_path / "restarted").run()
    assert resumed.checkpoint(2) == ran.checkpoint(2)


def test_saved_adapters_give_the_same_logits(ran: RecordedFederation, tmp_path: Path) -> None:
    for name in ("a", "b"):
        client = ran.client(name)
        client.save_adapter(tmp_path / name)
        with client_turn(ran, name):
            for adapter in ran.algorithm.adapters:
                lora = client.model.peft_config[adapter].peft_type == PeftType.LORA
                activate_lora(client.model, {adapter: 1.0}) if lora else activate(
                    client.model, adapter
                )
                expected = logits(client.model, client.backbone)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    loaded = PeftModel.from_pretrained(
                        client.backbone.fork(), str(tmp_path / name / adapter)
                    ).eval()
                assert torch.allclose(logits(loaded, client.backbone), expected, atol=1e-5), (
                    name,
                    adapter,
                )


def test_an_exported_client_gives_the_logits_of_what_it_uses(
    ran: RecordedFederation, tmp_path: Path
) -> None:
    if ran.name in NO_EXPORT:
        with pytest.raises(ModelError, match="anew for every input"):
            fedmosaic.export(ran.folder.path, "a", tmp_path / "lora")
        return
    fedmosaic.export(ran.folder.path, "a", tmp_path / "lora")
    with (
        client_turn(ran, "a") as client,
        ran.algorithm.view(client.context, ran.algorithm.views[0]) as model,
    ):
        expected = logits(model, client.backbone)
    loaded = PeftModel.from_pretrained(client.backbone.fork(), str(tmp_path / "lora")).eval()
    assert torch.allclose(logits(loaded, client.backbone), expected, atol=1e-4)
