"""Measure the local steps of equal compute in the paper's design, for 100 of local training.

  python -m benchmarks.cost.equal_compute                                  every algorithm
  python -m benchmarks.cost.equal_compute --only-print --algorithms sft fedmosaic

The design is DRAKE's main setting: two clients with Llama 3.2 1B for every three with 3B, rank 128
on all seven projections, N_B 4, batches of 4, a signature of every 10th batch. The models are
replicas with random weights whose extents are divided by ``--scale``: widths, MLP, vocabulary,
rank, tokens. All products of two extents and the tokens shrink alike, attention too. The ratios are
therefore those of the full size, which no CPU could measure. Only the language model is counted:
features of the frozen vision tower are computed once and stored. What a client does in each step is
counted for 100 steps; what it does once a round, for example on public examples, counts as it is.

The paper's numbers follow from a count of passes through the base model in which a backward pass
counts as two forward passes, as it does where all weights are trained. A step of local training is
then 3 passes, and an algorithm with T training passes and F further forward passes a step gets
100 · 3 / (3 T + F) steps (``PASSES``). With a frozen base and adapters, the backward pass needs no
gradients of W and costs one forward pass. What a method does next to training therefore weighs
more here: a half of a step instead of a third. Second adapters, which a count of passes does not
see, are counted, too. ``equal_compute_reasons.py`` explains every difference. Writes
results/equal_compute.json and equal_compute.md.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.common.tables import table_row
from benchmarks.cost.equal_compute_reasons import REASONS
from fedmosaic.algorithms import algorithm_class
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.equal_compute import REFERENCE, equal_steps
from fedmosaic.experiments.rehearsal import RoundCost, rehearse
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.loading import locate

# arXiv 2506.11024, appendix on the experimental set-up.
PAPER = {
    "fedmosaic": 94,
    "sft": 100,
    "fedavg": 100,
    "feddpa": 100,
    "fedsim": 75,
    "takfl": 75,
    "fedmkt": 60,
    "ditto": 50,
    "perada": 50,
    "feddat": 43,
}
# (T, F) that give the paper's numbers: training passes and further forward passes of a step.
PASSES = {
    "sft": (1, 0),
    "fedavg": (1, 0),
    "feddpa": (1, 0),
    "fedsim": (1, 1),
    "takfl": (1, 1),
    "fedmkt": (1, 2),
    "ditto": (2, 0),
    "perada": (2, 0),
    "feddat": (2, 1),
}
# Llama 3.2: width, layers, MLP, heads, key-value heads.
SHAPES = {"1b": (2048, 16, 8192, 32, 8), "3b": (3072, 28, 8192, 24, 8)}
CLIENTS = ("1b", "1b", "3b", "3b", "3b")  # in the proportion of DRAKE's 4 and 6
VOCABULARY, RANK, TOKENS = 128_256, 128, 700
# Public examples, as in the miniature benchmark; the paper does not say how many a round takes.
PUBLIC = 64
SERVER = "server's round relative to sft's clients"


def replica(folder: Path, shape: str, scale: int) -> Path:
    """Save a Llama with random weights, all extents divided by ``scale``, and return its path."""
    width, layers, mlp, heads, pairs = SHAPES[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width // scale,
        intermediate_size=mlp // scale,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=pairs,
        head_dim=max(2, width // heads // scale),
        vocab_size=VOCABULARY // scale,
        tie_word_embeddings=True,
    )
    path = folder / shape
    LlamaForCausalLM(config).save_pretrained(path)
    bundled = locate("miniature/llama-8x96").place
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(f"{bundled}/{name}", path / name)
    return path


def save_design(folder: Path, scale: int, steps: int) -> Path:
    """Save the scenario of the replicas with its data, and return the scenario's path.

    The data are questions of equal length with one-word answers. Algorithms that distil on public
    data use the task's own examples.
    """
    question = " ".join(["what", "colour", "is", "it"] * (TOKENS // scale // 4 - 2))
    items = [
        {"instruction": question, "output": answer, "options": ["red", "blue"]}
        for answer in ("red", "blue") * (PUBLIC // 2)
    ]
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        (folder / split / "questions.json").write_text(json.dumps(items))
    models = {shape: str(replica(folder, shape, scale)) for shape in SHAPES}
    content: dict[str, Any] = {
        "title": f"DRAKE's design at 1/{scale}",
        "rounds": 20,
        "clients": [
            {"name": f"client-{number}", "model": models[shape], "tasks": ["train/questions.json"]}
            for number, shape in enumerate(CLIENTS)
        ],
        "data": {"root": str(folder), "public": "train/questions.json", "public_size": PUBLIC},
        "adapter": {
            "r": RANK // scale,
            "alpha": 2 * RANK // scale,
            "dropout": 0.05,
            "num_blocks": 4,
        },
        "train": {"steps": steps, "batch_size": 4},
        "relevance": {"every": 10},
    }
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def cost_of_100_steps(cost: RoundCost, steps: int) -> RoundCost:
    """Return the cost of a round of 100 steps, given that of a round of ``steps``."""
    in_steps = {model: flops * 100 // steps for model, flops in cost.in_steps.items()}
    flops = {
        model: flops - cost.in_steps[model] + in_steps[model] for model, flops in cost.flops.items()
    }
    return replace(cost, flops=flops, in_steps=in_steps)


def measure(scale: int, steps: int, algorithms: list[str]) -> dict[str, Any]:
    """Measure algorithms in the paper's design.

    Args:
        scale: divisor of every extent.
        steps: steps of the rehearsed round.
        algorithms: names of algorithms.

    Returns:
        For every algorithm its equal steps, what its round costs relative to local training by
        architecture, and what the server computes.
    """
    logging.disable_progress_bar()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        scenario = load_scenario(save_design(Path(name), scale, steps))
        clients = Counter(client.model for client in scenario.clients)
        runtime = Runtime(RunSettings(name="design", algorithm=REFERENCE, scenario=scenario))
        runtime = runtime.with_settings(resolve(runtime))
        rehearsed = rehearse(runtime, REFERENCE, steps)
        reference = cost_of_100_steps(rehearsed, steps)
        for algorithm in algorithms:
            own = rehearsed if algorithm == REFERENCE else rehearse(runtime, algorithm, steps)
            cost = cost_of_100_steps(own, steps)
            limited = algorithm_class(algorithm).budgeted
            equal = round(equal_steps(100, reference, cost, clients), 2) if limited else None
            found[algorithm] = {
                "steps for 100": equal,
                "paper": PAPER.get(algorithm),
                **relative_costs(cost, reference, clients),
                "why": REASONS[algorithm],
            }
    return found


def relative_costs(
    cost: RoundCost, reference: RoundCost, clients: Mapping[str, int]
) -> dict[str, Any]:
    """Return the cost of a round relative to that of local training.

    Args:
        cost: the cost of 100 steps of an algorithm.
        reference: the cost of 100 steps of local training.
        clients: number of clients by model.
    """
    local = sum(reference.flops[model] * count for model, count in clients.items())
    return {
        "100 steps relative to sft": {
            Path(model).name: round(flops / reference.flops[model], 4)
            for model, flops in cost.flops.items()
        },
        "of these once a round": {
            Path(model).name: round(1 - cost.in_steps[model] / flops, 4)
            for model, flops in cost.flops.items()
        },
        SERVER: round(cost.server / local, 4),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the result in Markdown: measured steps, the paper's, and the reasons."""
    lines = [
        "# Local steps of equal compute",
        "",
        f"Made by `{result['command']}`: {result['design']}; {PUBLIC} public examples. The paper's "
        "numbers are those of a count of passes in which a step of local training is 3 (see "
        "`equal_compute.py`); ours are counted operations. *Server*: what the aggregation of a "
        "round computes, in rounds of local training of all clients; no client pays for it.",
        "",
        table_row(["algorithm", "steps for 100", "paper", "server", "why"]),
        "|---|---:|---:|---:|---|",
    ]
    for name, found in result["algorithms"].items():
        steps = "–" if found["steps for 100"] is None else f"{found['steps for 100']:.1f}"
        server = f"{found[SERVER]:.2f}" if found[SERVER] >= 0.005 else ""
        paper = str(found["paper"] or "")
        lines.append(table_row([name, steps, paper, server, found["why"]]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--scale", type=int, default=32, help="divisor of every extent (default: %(default)s)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=10,
        help="measured steps; 10 hold one signature (default: %(default)s)",
    )
    parser.add_argument(
        "--algorithms",
        nargs="+",
        default=list(REASONS),
        choices=list(REASONS),
        metavar="ALGORITHM",
        help="default: all",
    )
    parser.add_argument("--only-print", action="store_true", help="write no result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": "python -m benchmarks.cost.equal_compute "
        f"--scale {arguments.scale} --steps {arguments.steps}",
        "design": "DRAKE's main setting: Llama 3.2 1B and 3B at 2:3, rank 128, batch 4, 700 tokens",
        "algorithms": measure(arguments.scale, arguments.steps, arguments.algorithms),
    }
    print(json.dumps(result, indent=1))
    if not arguments.only_print:
        write_result("equal_compute", result, table(result))


if __name__ == "__main__":
    main()
