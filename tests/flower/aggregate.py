"""Flower's own aggregation, run by the interpreter of an environment that has Flower (its pins do not agree with ours).

    python tests/flower/aggregate.py FedProx '{"proximal_mu": 0.1}' updates.safetensors out.safetensors

Tensors of ``updates`` are called ``<client>/<tensor>``; its metadata give each client's number of samples. No network: the strategy is
handed the clients' replies.
"""

from __future__ import annotations

import json
import os
import sys

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies
from flwr.supercore.task_identity import TaskIdentity
from safetensors import safe_open
from safetensors.numpy import save_file


class Grid:
    """As much of a grid as a strategy asks before it trains: who is there."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> list[int]:
        return list(range(1, self.nodes + 1))


def main(name: str, options: str, source: str, target: str) -> None:
    """Aggregate one round; the metadata of the result hold what the strategy told the clients."""
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
    told = {
        key: value for key, value in asked[0].content["config"].items() if isinstance(value, float)
    }
    save_file(
        {key: value.numpy() for key, value in aggregated.items()},
        target,
        {"told": json.dumps(told)},
    )


def _arrays(tensors: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({key: Array(value) for key, value in tensors.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
