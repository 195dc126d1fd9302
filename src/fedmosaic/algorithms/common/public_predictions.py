"""The base of algorithms in which clients tell one another what they predict on public examples; no weight ever travels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.token_bridge import Bridges, Script
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.sft import SFT
from fedmosaic.config import Scenario
from fedmosaic.training.distil import Predictions, PublicBatches, predict, spoken

TAUGHT = "taught."


class PublicExchange(SFT):
    """Each client's own adapter; up: what it says of the public examples; down: what the others say, in its own tokens.

    A subclass says how the server makes one lesson of what the others say (``lesson``) and how a client learns it (``train``).
    What a client said last counts until it says something new, whether it takes part in a round or not.
    """

    needs_public: ClassVar[bool] = True

    class Options(SFT.Options):
        """``temperature``: T that predictions are softened by. ``top_k``: tokens of each prediction that travel."""

        temperature: float = Field(default=1.0, gt=0)
        top_k: int = Field(default=64, ge=1)

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        self.bridges = Bridges()

    # --- client half ------------------------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        client.state.update({f"{TAUGHT}{name}": value for name, value in download.tensors.items()})

    def taught(self, client: Client) -> dict[str, Tensor]:
        """The lesson received this round; it is not kept for another. Empty before anybody has said anything."""
        names = [name for name in client.state if name.startswith(TAUGHT)]
        return {name.removeprefix(TAUGHT): client.state.pop(name) for name in names}

    def batches(self, client: Client) -> PublicBatches:
        """Batches of the public examples, in an order of this client and round."""
        size = self.scenario.train.batch_size
        return PublicBatches(
            client.backbone, client.public(), size, client.generator("public batches")
        )

    def speak(self, client: Client) -> tuple[Predictions, Tensor]:
        """What the client predicts on the public examples, and −log p(answer) of each."""
        speaker = partial(spoken, client.model, client.backbone)
        options = self.options
        return predict(
            speaker,
            client.backbone,
            client.public(),
            temperature=options.temperature,
            top_k=options.top_k,
        )

    def upload(self, client: Client) -> Message:
        predictions, _ = self.speak(client)
        return Message(as_tensors(predictions))

    # --- server half ------------------------------------------------------------------------------------------------
    @abstractmethod
    def lesson(
        self, heard: Sequence[Predictions], sent: Sequence[Mapping[str, Tensor]], target: Script
    ) -> Mapping[str, Tensor]:
        """What a client is taught.

        Args:
            heard: what each of the others says, carried to the client's positions and tokens (see :func:`blend`).
            sent: what each of them uploaded. target: how the client's model reads the public examples.
        """

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        architecture = {member.name: member.architecture for member in server.members}
        for name, update in updates.items():
            server.state.put(f"said@{architecture[name]}", name, update.tensors)
        said = {name: server.state.get(f"said@{own}", name) for name, own in architecture.items()}
        said = {name: tensors for name, tensors in said.items() if tensors}
        shares: dict[str, list[float]] = {}
        for own in dict.fromkeys(architecture.values()):
            heard: dict[str, Predictions] = {}
            for name, tensors in said.items():
                bridge = self.bridges.between(server, architecture[name], own)
                carried = bridge.carry(
                    Predictions(tensors["probabilities"], tensors["tokens"].int())
                )
                heard[name] = carried.predictions
                if architecture[name] != own:
                    shares.setdefault(f"{architecture[name]} -> {own}", []).append(
                        bridge.matched * carried.mapped
                    )
            for member in server.members:
                others = [name for name in heard if name != member.name]
                if member.architecture == own and others:
                    target = self.bridges.between(server, own, own).target
                    taught = self.lesson(
                        [heard[name] for name in others], [said[name] for name in others], target
                    )
                    server.state.put(f"lesson@{own}", member.name, taught)
        server.report["mapped"] = {pair: sum(found) / len(found) for pair, found in shares.items()}

    def download(self, server: Server, member: Member) -> Message:
        lesson = server.state.get(f"lesson@{member.architecture}", member.name)
        # The ledger keeps every number as float32, in which token ids are exact.
        return Message(
            {name: value.int() if name == "tokens" else value for name, value in lesson.items()}
        )


def as_tensors(predictions: Predictions) -> dict[str, Tensor]:
    """Predictions under the names by which they travel."""
    return {"probabilities": predictions.probabilities, "tokens": predictions.tokens}
