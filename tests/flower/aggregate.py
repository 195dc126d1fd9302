"""Run Flower's own aggregation in a process of its own; the caller sets Flower's variables.

    python tests/flower/aggregate.py FedProx '{"proximal_mu": 0.1}' updates.safetensors
    out.safetensors

Tensors of ``updates`` are called ``<client>/<tensor>``; its metadata give each client's number of
samples. No network is used: the strategy receives the clients' replies directly.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies
from flwr.supercore.task_identity import TaskIdentity
from safetensors import safe_open
from safetensors.numpy import save_file


class Grid:
    """Implement the part of a grid that a strategy needs before training: the nodes' ids."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.nodes + 1))


def main(name: str, options: str, source: str, target: str) -> None:
    """Aggregate one round; the result's metadata hold the settings that were sent to clients."""
    with safe_open(source, "np") as file:
        samples: dict[str, int] = json.loads(file.metadata()["samples"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    # A run would have set these; messages are not made without.
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    strategy = getattr(strategies, name)(**json.loads(options))
    own = {
        client: {
            key.partition("/")[2]: value
            for key, value in tensors.items()
            if key.startswith(f"{client}/")
        }
        for client in samples
    }
    first = next(iter(own.values()))
    asked = list(strategy.configure_train(1, _arrays(first), ConfigRecord(), Grid(len(own))))
    replies = []
    for message, (client, arrays) in zip(asked, own.items(), strict=True):
        metrics = MetricRecord({"num-examples": samples[client], "loss": 0.0})
        replies.append(
            Message(RecordDict({"arrays": _arrays(arrays), "metrics": metrics}), reply_to=message)
        )
    aggregated, _ = strategy.aggregate_train(1, replies)
    config = {
        key: value for key, value in asked[0].content["config"].items() if isinstance(value, float)
    }
    save_file(
        {key: value.numpy() for key, value in aggregated.items()},
        target,
        {"config": json.dumps(config)},
    )


def _arrays(tensors: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({key: Array(value) for key, value in tensors.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
