"""Provide the base of algorithms whose clients exchange predictions on public examples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.token_bridge import Bridges, TokenizedPublicSet
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.sft import SFT
from fedmosaic.algorithms.state import StateKey
from fedmosaic.config import Scenario
from fedmosaic.training.distil import Predictions, PublicBatches, label_logits, predict

TARGETS = "targets."


class PublicExchange(SFT):
    """Exchange predictions on public examples; weights never travel.

    Each client has its own adapter. It uploads its predictions and receives targets in its own
    tokens. A subclass says how the server makes a client's targets of its peers' predictions
    (:meth:`targets`) and how a client learns from them (``train``). A client's last predictions
    count until it sends new ones, whether it takes part in a round or not.
    """

    exchange: ClassVar[str] = "predictions on public examples between all clients"
    needs_public: ClassVar[bool] = True
    maps_predictions: ClassVar[bool] = True

    class Options(SFT.Options):
        """Hold the settings of the predictions."""

        temperature: float = Field(default=1.0, gt=0)
        """T, the temperature that softens predictions."""
        top_k: int = Field(default=64, ge=1)
        """Number of tokens of each prediction that travel."""

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        self.bridges = Bridges()

    # --- client half ------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        received = {f"{TARGETS}{name}": value for name, value in download.tensors.items()}
        client.state.update(received)

    def take_targets(self, client: Client) -> dict[str, Tensor]:
        """Return the targets received this round and remove them from the client's state.

        Empty before any client has sent predictions.
        """
        names = [name for name in client.state if name.startswith(TARGETS)]
        return {name.removeprefix(TARGETS): client.state.pop(name) for name in names}

    def batches(self, client: Client) -> PublicBatches:
        """Return batches of the public examples, in an order of this client and round."""
        size = self.scenario.train.batch_size
        # Names the draw; published runs depend on it.
        draw = client.generator("public batches")
        return PublicBatches(client.backbone, client.public(), size, draw)

    def predict(self, client: Client) -> tuple[Predictions, Tensor]:
        """Return the client's predictions on the public examples, and −log p(answer) of each."""
        return predict(
            partial(label_logits, client.model, client.backbone),
            client.backbone,
            client.public(),
            temperature=self.options.temperature,
            top_k=self.options.top_k,
        )

    def upload(self, client: Client) -> Message:
        predictions, _ = self.predict(client)
        return Message(as_tensors(predictions))

    # --- server half ------------------------------------------------------------------------------
    @abstractmethod
    def targets(
        self,
        peer_predictions: Sequence[Predictions],
        peer_updates: Sequence[Mapping[str, Tensor]],
        public: TokenizedPublicSet,
    ) -> Mapping[str, Tensor]:
        """Return the targets of one client.

        Args:
            peer_predictions: of each other client, mapped to this client's positions and tokens.
            peer_updates: what each of them uploaded.
            public: the public examples as this client's model reads them.
        """

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        model_of = {member.name: member.architecture for member in server.members}
        for name, update in updates.items():
            server.state.put(StateKey("predictions", model_of[name]), update.tensors, name)
        sent = {
            name: server.state.get(StateKey("predictions", model), name)
            for name, model in model_of.items()
        }
        sent = {name: tensors for name, tensors in sent.items() if tensors}
        shares: dict[str, list[float]] = {}
        for model in dict.fromkeys(model_of.values()):
            predictions = self._mapped(server, sent, model_of, model, shares)
            public = self.bridges.between(server, model, model).target
            for member in server.members:
                peers = [name for name in predictions if name != member.name]
                if member.architecture == model and peers:
                    targets = self.targets(
                        [predictions[name] for name in peers],
                        [sent[name] for name in peers],
                        public,
                    )
                    server.state.put(StateKey("targets", model), targets, member.name)
        mapped = {pair: sum(found) / len(found) for pair, found in shares.items()}
        server.record("mapped", mapped)

    def _mapped(
        self,
        server: Server,
        sent: Mapping[str, Mapping[str, Tensor]],
        model_of: Mapping[str, str],
        model: str,
        shares: dict[str, list[float]],
    ) -> dict[str, Predictions]:
        """Return all predictions in a model's tokens, and add the mapped shares to ``shares``."""
        predictions: dict[str, Predictions] = {}
        for name, tensors in sent.items():
            bridge = self.bridges.between(server, model_of[name], model)
            found = bridge.map(Predictions(tensors["probabilities"], tensors["tokens"].int()))
            predictions[name] = found.predictions
            if model_of[name] != model:
                pair = f"{model_of[name]} -> {model}"
                shares.setdefault(pair, []).append(bridge.matched * found.mapped)
        return predictions

    def download(self, server: Server, member: Member) -> Message:
        targets = server.state.get(StateKey("targets", member.architecture), member.name)
        # The server's state holds every number as float32, in which token ids are exact.
        tokens = {name: value.int() for name, value in targets.items() if name == "tokens"}
        return Message({**targets, **tokens})


def as_tensors(predictions: Predictions) -> dict[str, Tensor]:
    """Return predictions under the names by which they travel."""
    return {"probabilities": predictions.probabilities, "tokens": predictions.tokens}
