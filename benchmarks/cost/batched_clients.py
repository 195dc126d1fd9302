"""Measure training clients of one architecture as one batch against one by one.

  python -m benchmarks.cost.batched_clients [--pairs 10] [--threads 1] [--small]

The same clients take the same rounds three times, in alternating order: one by one, with all in one
batch (``train.together``), and one by one without fast training (``train.fused_layers`` and
``train.packed_weights`` off), whose losses are those of one by one. A round is receiving nothing, 5
local steps and packing the update; there is no evaluation. Its examples are encoded before. Ratios
are of one by one (``single``; ``plain`` without fast training) to together, of the whole round and
of its forward passes, backward passes and optimiser steps alone, their medians over the pairs: 2 is
twice the throughput. After the last round all clients are evaluated on their own tasks. Clients
have the tasks of ``miniature/hetero``, whose prompts differ in length; with *same tasks* all have
those of the first client. The random Llama has the sizes of SmolLM2 135M and texts of 40 words.

Sums of a joint batch differ in their last bits, and Adam makes more of that with every step. To
compare, the clients also train one by one at learning rates 1 + 2e-7 times as high:
``max_loss_difference_of_learning_rate`` is how far that moves the losses of a round.

Writes results/batched_clients.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from fedmosaic.algorithms import Message
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import load_scenario, parse
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import rng

STEPS = 5
KINDS = ("processor time", "wall time", "wall time of the steps")
NEARLY = 1 + 2e-7
"""Factor on the learning rates that shows how losses drift apart after the least change."""
LARGE = "random-llama-135m"
SIZES: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


class Case(NamedTuple):
    """Describe clients that train.

    Attributes:
        model: their model.
        algorithm: their algorithm.
        clients: their number.
        batch: examples of a client in a step.
        same_tasks: whether all have the first client's tasks, with prompts of the same lengths.
    """

    model: str
    algorithm: str
    clients: int
    batch: int
    same_tasks: bool = False

    @property
    def name(self) -> str:
        tasks = " same tasks" if self.same_tasks else ""
        return f"{self.model.split('/')[-1]} {self.algorithm} {self.clients}x{self.batch}{tasks}"


SMALL = ("miniature/llama-8x96", "miniature/qwen2-10x112", "miniature/llama-12x128")
CASES = [
    *(Case(model, "fedmosaic", 4, 4, same_tasks=True) for model in SMALL),
    *(Case(model, "fedmosaic", 4, 4) for model in SMALL),
    *(Case(model, "fedavg", 4, 4) for model in SMALL),
    Case(SMALL[1], "fedmosaic", 2, 4),
    Case(SMALL[1], "fedmosaic", 4, 8),
    Case(SMALL[1], "fedmosaic", 8, 4),
    Case(LARGE, "fedmosaic", 4, 4),
    Case(LARGE, "fedmosaic", 2, 4),
]


def measure(case: Case, pairs: int, folder: Path) -> dict[str, Any]:
    """Return ratios and differences of one case."""
    single = Runtime(settings_of(case, 1, pairs + 1, folder))
    joint = single.with_settings(settings_of(case, case.clients, pairs + 1, folder))
    nearly = single.with_settings(settings_of(case, 1, pairs + 1, folder, NEARLY))
    plain = Runtime(settings_of(case, 1, pairs + 1, folder, fast=False))
    sides = {
        "single": InProcess(single),
        "together": InProcess(joint),
        "plain": InProcess(plain),
    }
    perturbed = InProcess(nearly)
    for side in (*sides.values(), perturbed):
        side.introduce()
    rows: list[dict[str, Any]] = []
    for number in range(pairs + 1):
        encode_ahead(sides["single"], number)
        encode_ahead(sides["plain"], number)
        order = list(sides)[number % 3 :] + list(sides)[: number % 3]
        found = {side: one_round(sides[side], number) for side in order}
        losses = [found[side][0] for side in sides]
        assert losses[0] == losses[2], "fast training has other numbers"
        drifted, *_ = one_round(perturbed, number)
        rows.append(
            {
                "loss": max_difference(*losses[:2]),
                "drift": max_difference(losses[0], drifted),
                **{side: measured[1:] for side, measured in found.items()},
            }
        )
    scores = [scores_of(side, pairs) for side in sides.values()]
    measured = rows[1:]  # the first round builds models
    ratios = {
        f"{kind} of {side} to together": spread(
            [row[side][number] / row["together"][number] for row in measured]
        )
        for number, kind in enumerate(KINDS)
        for side in ("single", "plain")
    }
    return {
        "clients": case.clients,
        "batch_size": case.batch,
        "algorithm": case.algorithm,
        "ratios": ratios,
        "processor_seconds_a_round": {
            side: round(statistics.median(row[side][0] for row in measured), 3) for side in sides
        },
        "loss_difference_of_first_round": rows[0]["loss"],
        "max_loss_difference": max(row["loss"] for row in rows),
        "max_loss_difference_of_learning_rate": max(row["drift"] for row in rows),
        "equal_scores": scores[0] == scores[1] == scores[2],
    }


def max_difference(losses: dict[str, float], others: dict[str, float]) -> float:
    """Return the largest difference between losses of a client."""
    return max(abs(loss - others[name]) for name, loss in losses.items())


def spread(values: list[float]) -> dict[str, Any]:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 2), "quartiles": [round(low, 2), round(high, 2)]}


def encode_ahead(clients: InProcess, number: int) -> None:
    """Encode the examples of a round and their images, which both sides then find."""
    for client in clients.clients.values():
        before = client.stream.state_dict()
        client.stream.begin_round(number)
        for _ in range(STEPS):
            examples = client.stream.examples(client.stream.next_batch())
            client.backbone.collate([client.backbone.encode(example) for example in examples])
        client.stream.load_state_dict(before)


def one_round(clients: InProcess, number: int) -> tuple[dict[str, float], float, float, float]:
    """Return losses by client and the seconds of a round, one of each of ``KINDS``."""
    wall, processor = time.perf_counter(), time.process_time()
    results = exchange(clients, Instructions(number))
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    fits = {name: result.fit for name, result in results.items() if result.fit}
    steps = sum(fit.seconds["compute"] for fit in fits.values())
    return {name: fit.loss for name, fit in fits.items()}, processor, wall, steps


def scores_of(clients: InProcess, number: int) -> list[float]:
    """Return the scores of all clients on their own tasks."""
    results = exchange(clients, Instructions(number, train=False, after=True, items=20))
    return [record.value for result in results.values() for record in result.records]


def exchange(clients: InProcess, asked: Instructions) -> Mapping[str, ClientResult]:
    """Let all clients take a turn without a download."""
    names = list(clients.clients)
    nothing = pack(Message())
    return dict(clients.exchange(dict.fromkeys(names, asked), dict.fromkeys(names, nothing)))


def settings_of(
    case: Case, together: int, rounds: int, folder: Path, factor: float = 1.0, fast: bool = True
) -> RunSettings:
    """Return the settings of a run of the case's clients, with ``factor`` on the learning rates."""
    hetero = load_scenario("miniature/hetero").model_dump(mode="json")
    tasks = [client["tasks"] for client in hetero["clients"]]
    large = case.model == LARGE
    clients = [
        {
            "name": f"client-{number}",
            "model": str(folder / LARGE) if large else case.model,
            "tasks": [f"texts-{number}.json"] if large else tasks[0 if case.same_tasks else number],
        }
        for number in range(case.clients)
    ]
    rates = {"lr": 5e-4, "lr_shared": 1e-3, "lr_gate": 5e-4} if large else {}
    train = hetero["train"] | rates
    train |= {name: train[name] * factor for name in ("lr", "lr_shared", "lr_gate")}
    content = {
        **hetero,
        "rounds": rounds,
        "clients": clients,
        "train": {
            **train,
            "steps": STEPS,
            "batch_size": case.batch,
            "together": together,
            "fused_layers": fast,
            "packed_weights": fast,
        },
        "relevance": {**hetero["relevance"], "model": "miniature/llama-8x96"},
        "evaluation": {"every": 0, "others": False},
        "algorithms": {},
    }
    if large:
        write_large(folder)
        content["data"] = {"root": str(folder), "public": "none", "train": 64, "test": 20}
        content["relevance"]["model"] = str(folder / LARGE)
    scenario = parse(Scenario, content, case.name)
    return RunSettings(name=case.name, algorithm=case.algorithm, scenario=scenario)


def write_large(folder: Path) -> None:
    """Write the random Llama, with a miniature's tokenizer, and its tasks; once."""
    if (folder / LARGE).exists():
        return
    tokenizer = Backbone.load("miniature/llama-8x96").tokenizer
    torch.manual_seed(0)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **special))
    model.save_pretrained(folder / LARGE)
    tokenizer.save_pretrained(folder / LARGE)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha())
    for number in range(max(case.clients for case in CASES)):
        draw = rng("batched clients", number)
        items = [
            {
                "conversations": [
                    {"from": "human", "value": " ".join(draw.choice(words, 40))},
                    {"from": "gpt", "value": str(draw.choice(words))},
                ]
            }
            for _ in range(100)
        ]
        (folder / f"texts-{number}.json").write_text(json.dumps(items))


def main() -> None:
    """Measure all cases and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="the miniatures, without the large")
    parser.add_argument("--only", default="", help="cases with this in their names; no result file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if options.only in case.name and not (options.small and case.model == LARGE):
                cases[case.name] = measure(case, options.pairs, Path(folder))
                print(case.name, json.dumps(cases[case.name]), flush=True)
    result = {
        "command": "python -m benchmarks.cost.batched_clients"
        f" --pairs {options.pairs} --threads {options.threads}{' --small' * options.small}",
        "setting": f"rounds of {STEPS} local steps, LoRA of rank 16 on all projections, seed 0",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "load_average": round(os.getloadavg()[0], 1),
        },
        "cases": cases,
    }
    if not options.only:
        write_result("batched_clients", result, indent=2)


if __name__ == "__main__":
    main()
