"""Evaluate clients on request, with whichever version of fedmosaic is on the path.

The text of this file is the program of a process of :mod:`benchmarks.cost.evaluation_time`. The
first line of its input names the scenario, the second the number of threads, each further one a
model. The answer is the wall and the processor time of one evaluation of the scenario's first
client with this model, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.seeding import generator

SIZE = 0.01


def main() -> None:
    """Answer until the input ends."""
    requests = (line.strip() for line in sys.stdin)
    scenario = next(requests)
    torch.set_num_threads(int(next(requests)))
    loaded = load_scenario(scenario, ["alignment.method=none"])
    runtime = Runtime(RunSettings(name=scenario, scenario=loaded))
    clients: dict[str, LocalClient] = {}
    for model in requests:
        if model not in clients:
            spec = next(spec for spec in runtime.scenario.clients if spec.model == model)
            client = clients[model] = LocalClient(runtime, spec)
            draw = generator(0, "evaluation time", spec.name)
            client._adapters = {
                key: value + SIZE * torch.randn(value.shape, generator=draw)
                for key, value in client.adapted.fresh.items()
            }
        asked = Instructions(round=0, items=runtime.scenario.evaluation.items)
        with clients[model].turn():
            wall, processor = time.perf_counter(), time.process_time()
            clients[model]._evaluate(asked, "after")
            found = time.perf_counter() - wall, time.process_time() - processor
        print(json.dumps(found), flush=True)


main()
