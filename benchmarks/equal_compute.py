"""Local steps of equal compute in the paper's design: what every algorithm gets for 100 steps of local training.

    python benchmarks/equal_compute.py                 # every algorithm there is
    python benchmarks/equal_compute.py --steps 100 --scale 16 --algorithms sft fedmosaic

The design is DRAKE's main setting: two clients with Llama 3.2 1B for every three with 3B, rank 128 on all seven projections, N_B 4,
batches of 4, a signature every 10th batch. The models are replicas with random weights, every extent divided by ``--scale``: widths, MLP,
vocabulary, rank, tokens. All products of two extents and the tokens shrink alike (attention too), so the ratios are those of the full
size, which no CPU could measure. Counted is the language model's part: features of the frozen vision tower are computed once and kept.
The result stands beside the paper's numbers in ``benchmarks/results/equal_compute.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from fedmosaic.algorithms import TABLE
from fedmosaic.config import RunSettings
from fedmosaic.configfile import load_scenario
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation.budget import REFERENCE, equal_steps
from fedmosaic.federation.rehearsal import rehearse
from fedmosaic.federation.run import resolve
from fedmosaic.federation.site import Site
from fedmosaic.models.source import locate

HERE = Path(__file__).parent
# arXiv 2506.11024, appendix on the experimental set-up.
PAPER = {"fedmosaic": 94, "sft": 100, "fedavg": 100, "feddpa": 100, "fedsim": 75, "takfl": 75, "fedmkt": 60,
         "ditto": 50, "perada": 50, "feddat": 43}  # fmt: skip
# Llama 3.2: width, layers, MLP, heads, key-value heads.
SHAPES = {"1b": (2048, 16, 8192, 32, 8), "3b": (3072, 28, 8192, 24, 8)}
CLIENTS = ("1b", "1b", "3b", "3b", "3b")  # in the proportion of DRAKE's 4 and 6
VOCABULARY, RANK, TOKENS = 128_256, 128, 700


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
        for answer in ("red", "blue") * 20
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
        "data": {"root": str(folder), "public": "train/questions.json", "public_size": 16},
        "adapter": {"rank": RANK // scale, "alpha": 2 * RANK // scale, "dropout": 0.05, "blocks": 4},
        "train": {"steps": steps, "batch_size": 4},
        "relevance": {"every": 10},
    }
    path = folder / "design.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def measure(scale: int, steps: int, algorithms: list[str]) -> dict[str, Any]:
    """For every algorithm its equal steps and, by architecture, what its round costs relative to local training."""
    logging.disable_progress_bar()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = load_scenario(design(folder, scale, steps))
        clients = Counter(client.model for client in scenario.clients)
        site = Site(RunSettings(name="design", algorithm=REFERENCE, scenario=scenario))
        site.use(resolve(site))
        reference = rehearse(site, REFERENCE, steps)
        for algorithm in algorithms:
            try:
                own = reference if algorithm == REFERENCE else rehearse(site, algorithm, steps)
            except FedMosaicError as error:
                found[algorithm] = {"error": str(error).replace(str(folder), "design")}
                continue
            found[algorithm] = {
                "steps for 100": round(100 / steps * equal_steps(steps, reference, own, clients), 2),
                "paper": PAPER.get(algorithm),
                "round relative to sft": {
                    Path(model).name: round(own.flops[model] / reference.flops[model], 4) for model in own.flops
                },
                "outside steps": {
                    Path(model).name: round(1 - own.in_steps[model] / own.flops[model], 4) for model in own.flops
                },
            }
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=32, help="divides every extent")
    parser.add_argument(
        "--steps", type=int, default=20, help="measured steps of local training; two signature periods tell all"
    )
    parser.add_argument("--algorithms", nargs="+", default=list(TABLE), choices=list(TABLE))
    parser.add_argument("--only-print", action="store_true", help="write no result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/equal_compute.py --scale {arguments.scale} --steps {arguments.steps}",
        "design": "DRAKE's main setting: Llama 3.2 1B and 3B at 2:3, rank 128, batch 4, 700 tokens",
        "algorithms": measure(arguments.scale, arguments.steps, arguments.algorithms),
    }
    print(json.dumps(result, indent=1))
    if not arguments.only_print:
        (HERE / "results" / "equal_compute.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
