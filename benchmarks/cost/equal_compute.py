"""Local steps of equal compute in the paper's design: what every algorithm gets for 100 steps of local training.

    python -m benchmarks.cost.equal_compute                 # every algorithm there is
    python -m benchmarks.cost.equal_compute --steps 100 --scale 16 --algorithms sft fedmosaic

The design is DRAKE's main setting: two clients with Llama 3.2 1B for every three with 3B, rank 128 on all seven projections, N_B 4,
batches of 4, a signature every 10th batch. The models are replicas with random weights, every extent divided by ``--scale``: widths, MLP,
vocabulary, rank, tokens. All products of two extents and the tokens shrink alike (attention too), so the ratios are those of the full
size, which no CPU could measure. Counted is the language model's part: features of the frozen vision tower are computed once and kept.
What a client does in each step is taken times 100 steps; what it does once a round, on public examples say, counts as it is.

The paper's numbers follow from passes through the base model, if a backward pass counts as two forward ones, as it does where all
weights are trained: a step of local training is then 3 passes, and one with T training passes and F more forward passes gets
100 · 3 / (3 T + F) steps (``PASSES``). With a frozen base and adapters the backward pass needs no gradients of W and costs one
forward pass; so what a method does beside training weighs more here, a half instead of a third of a step, and second adapters, which
a count of passes does not see, weigh too. ``WHY`` says for each algorithm what our step does instead. The result stands beside the
paper's numbers in ``benchmarks/results/equal_compute.json`` and ``equal_compute.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from benchmarks.common.paths import RESULTS
from fedmosaic.algorithms import TABLE, algorithm_class
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.equal_compute import REFERENCE, equal_steps
from fedmosaic.experiments.rehearsal import RoundCost, rehearse
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.loading import locate

# arXiv 2506.11024, appendix on the experimental set-up.
PAPER = {"fedmosaic": 94, "sft": 100, "fedavg": 100, "feddpa": 100, "fedsim": 75, "takfl": 75, "fedmkt": 60,
         "ditto": 50, "perada": 50, "feddat": 43}  # fmt: skip
# (T, F) that give the paper's numbers: training passes and further forward passes of a step.
PASSES = {"sft": (1, 0), "fedavg": (1, 0), "feddpa": (1, 0), "fedsim": (1, 1), "takfl": (1, 1), "fedmkt": (1, 2),
          "ditto": (2, 0), "perada": (2, 0), "feddat": (2, 1)}  # fmt: skip
PLAIN = "A step is that of local training; averaging costs the clients nothing."
WHY = {
    "fedmosaic": "The pair of branches in one pass, and a signature of every 10th batch: one forward pass of the smallest model.",
    "sft": "The reference.",
    "fedavg": PLAIN,
    "fedprox": f"{PLAIN} The proximal term is element-wise, which is not counted.",
    "scaffold": f"{PLAIN} The correction is element-wise, which is not counted.",
    "fedper": PLAIN,
    "ditto": "Two trainings on each batch.",
    "fedsim": "Both adapters are trained by one loss, as its authors' simultaneous update says: one forward and one backward pass, with "
    "two adapters in it. The paper's number has one more forward pass in each step.",
    "feddat": "Two trainings on each batch, one of them beside a third, frozen adapter. The paper's number has a third forward pass: the "
    "authors' code runs the teacher twice, with the same weights; here its one pass serves both ways.",
    "feddpa": "Half of the steps train one adapter beside a second, frozen one, and once a round the reference samples are "
    "represented by a forward pass. A count of passes sees neither.",
    "perada": "Two trainings on each batch, as Ditto. Distillation is the server's work.",
    "feddistill": "Each step trains on a private and on a public batch.",
    "fedmkt": "Once a round a training pass over the public examples and a forward pass to say what they are answered: the more public "
    "examples, the fewer steps are left. The paper's number has two forward passes in each step instead.",
    "takfl": f"{PLAIN} Distillation is the server's work. The paper's number has one forward pass in each step for it.",
    "hetlora": f"{PLAIN} Its penalty is element-wise or of the size of the rank.",
    "flexlora": f"{PLAIN} The SVD is the server's work, and not a product that is counted.",
    "flora": "What has been merged stays a frozen adapter beside the trained one, since clients share W in memory; by default it is wide "
    "enough to hold every sum exactly, here as wide as the model. algorithms.flora.rank makes it narrower.",
    "fedsa_lora": PLAIN,
    "ffa_lora": "A is frozen: no gradient for it.",
    "fedmosaic-alone": "The pair of branches without signatures.",
    "pooled": "An oracle: it trains on the data of all clients, at N times the cost, and no budget limits it.",
}
# Llama 3.2: width, layers, MLP, heads, key-value heads.
SHAPES = {"1b": (2048, 16, 8192, 32, 8), "3b": (3072, 28, 8192, 24, 8)}
CLIENTS = ("1b", "1b", "3b", "3b", "3b")  # in the proportion of DRAKE's 4 and 6
VOCABULARY, RANK, TOKENS = 128_256, 128, 700
PUBLIC = 64  # public examples, as in the miniature benchmark; the paper does not say how many a round takes


def replica(folder: Path, shape: str, scale: int) -> Path:
    """A Llama of that shape with every extent divided by ``scale``, random weights and a bundled tokenizer."""
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
    bundled, _ = locate("miniature/llama-8x96")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(f"{bundled}/{name}", path / name)
    return path


def design(folder: Path, scale: int, steps: int) -> Path:
    """The scenario file of the replicas, and its data: questions of equal length with one-word answers."""
    items = [
        {
            "instruction": " ".join(["what", "colour", "is", "it"] * (TOKENS // scale // 4 - 2)),
            "output": answer,
            "options": ["red", "blue"],
        }
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
        # Some algorithms distil on public data; the task's own items stand in for it.
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


def over(cost: RoundCost, steps: int) -> RoundCost:
    """The cost of a round of 100 steps from that of one of ``steps``."""
    in_steps = {model: flops * 100 // steps for model, flops in cost.in_steps.items()}
    flops = {
        model: flops - cost.in_steps[model] + in_steps[model] for model, flops in cost.flops.items()
    }
    return replace(cost, flops=flops, in_steps=in_steps)


def measure(scale: int, steps: int, algorithms: list[str]) -> dict[str, Any]:
    """For every algorithm its equal steps and, by architecture, what its round costs relative to local training."""
    logging.disable_progress_bar()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = load_scenario(design(folder, scale, steps))
        clients = Counter(client.model for client in scenario.clients)
        runtime = Runtime(RunSettings(name="design", algorithm=REFERENCE, scenario=scenario))
        runtime.use(resolve(runtime))
        reference = rehearse(runtime, REFERENCE, steps)
        reference_100 = over(reference, steps)
        for algorithm in algorithms:
            own = reference if algorithm == REFERENCE else rehearse(runtime, algorithm, steps)
            own_100 = over(own, steps)
            limited = not algorithm_class(algorithm).oracle
            local = sum(reference_100.flops[client.model] for client in scenario.clients)
            found[algorithm] = {
                "steps for 100": round(equal_steps(100, reference_100, own_100, clients), 2)
                if limited
                else None,
                "paper": PAPER.get(algorithm),
                "100 steps relative to sft": {
                    Path(model).name: round(own_100.flops[model] / reference_100.flops[model], 4)
                    for model in own.flops
                },
                "of these once a round": {
                    Path(model).name: round(1 - own_100.in_steps[model] / own_100.flops[model], 4)
                    for model in own.flops
                },
                "server's round relative to sft's clients": round(own.server / local, 4),
                "why": WHY[algorithm],
            }
    return found


def table(result: dict[str, Any]) -> str:
    """The result as a page: measured steps beside the paper's, and why they differ."""
    lines = [
        f"# Local steps of equal compute\n\nMade by `{result['command']}`: {result['design']}; {PUBLIC} public examples.",
        "The paper's numbers are those of a count of passes in which a step of local training is 3 (see `equal_compute.py`); ours are",
        "counted operations. *Server* is what a round's aggregation computes, in rounds of local training of all clients; no client",
        "pays it.",
        "\n| algorithm | steps for 100 | paper | server | why |\n|---|---:|---:|---:|---|",
    ]
    for name, found in result["algorithms"].items():
        steps = "–" if found["steps for 100"] is None else f"{found['steps for 100']:.1f}"
        server = found["server's round relative to sft's clients"]
        told = f"{server:.2f}" if server >= 0.005 else ""
        lines.append(f"| {name} | {steps} | {found['paper'] or ''} | {told} | {found['why']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=32, help="divides every extent")
    parser.add_argument(
        "--steps",
        type=int,
        default=10,
        help="measured steps of local training; a signature period tells all",
    )
    parser.add_argument("--algorithms", nargs="+", default=list(TABLE), choices=list(TABLE))
    parser.add_argument("--only-print", action="store_true", help="write no result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python -m benchmarks.cost.equal_compute --scale {arguments.scale} --steps {arguments.steps}",
        "design": "DRAKE's main setting: Llama 3.2 1B and 3B at 2:3, rank 128, batch 4, 700 tokens",
        "algorithms": measure(arguments.scale, arguments.steps, arguments.algorithms),
    }
    print(json.dumps(result, indent=1))
    if not arguments.only_print:
        (RESULTS / "equal_compute.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "equal_compute.md").write_text(table(result))


if __name__ == "__main__":
    main()
