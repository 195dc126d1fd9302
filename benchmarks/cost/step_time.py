"""Time and memory of one training step of the FedMosaic adapter against PEFT's LoRA of the same rank and targets.

    python -m benchmarks.cost.step_time [--pairs 60] [--threads 1] [--out benchmarks/results/step_time.json]

Model: Llama, 512 wide, 8 layers, random weights, fp32; r 64 on all seven projections; 4 x 192 tokens; forward, backward
and a fused AdamW step. The machine may be busy with other things, so steps alternate (LoRA, ours, ours, LoRA ...) and
what counts is the median of the ratios of neighbours, of wall time and (which waiting for a core does not change) of
processor time. Memory is measured in one process per adapter: the bytes autograd
keeps from the forward pass for the backward pass, and the growth of the peak resident size over training.

Compared: ``lora``: PEFT's LoRA. ``fedmosaic``: Co-LoRA on 4 block ends, LoRA on the other layers, local and global
adapter, scalar gate. ``colora``: the same with Co-LoRA on every layer.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

from benchmarks.common.paths import RESULTS
from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.adapters.model import PROJECTIONS
from fedmosaic.files import write_atomic

RANK, BATCH, TOKENS, VOCABULARY = 64, 4, 192, 2048
TARGETS = {"fedmosaic": 1.10, "colora": 0.95}


def build(kind: str) -> Callable[[], tuple[float, float]]:
    """A function that does one training step and returns its seconds: on the wall and of the processor."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
    )
    base = transformers.LlamaForCausalLM(config)
    model: Any
    if kind == "lora":
        model = peft.get_peft_model(
            base, peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(PROJECTIONS))
        )
    else:
        block_layers = "all" if kind == "colora" else None
        model = build_pair(
            base, CoLoraConfig(r=RANK, lora_alpha=2 * RANK, num_blocks=4, block_layers=block_layers)
        )
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True
    )
    ids = torch.randint(0, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))

    def step() -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - wall, time.process_time() - processor

    step.model = model  # type: ignore[attr-defined]
    return step


def quartiles(values: list[float]) -> dict[str, float]:
    """The quartiles, rounded for reading."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "quartile_1": round(low, 4), "quartile_3": round(high, 4)}


def compare(kind: str, pairs: int) -> dict[str, Any]:
    """Alternating steps of PEFT's LoRA and of ``kind``."""
    lora, ours = build("lora"), build(kind)
    for _ in range(3):
        lora(), ours()
    times: dict[str, list[tuple[float, float]]] = {"lora": [], kind: []}
    gc.collect()
    gc.disable()
    for i in range(pairs):
        for name, step in (("lora", lora), (kind, ours))[:: 1 if i % 2 else -1]:
            times[name].append(step())
    gc.enable()
    walls, processors = (
        {name: [step[which] for step in steps] for name, steps in times.items()} for which in (0, 1)
    )
    ratios, processor_ratios = (
        [b / a for a, b in zip(seconds["lora"], seconds[kind], strict=True)]
        for seconds in (walls, processors)
    )
    return {
        "ratio": {**quartiles(ratios), "target": TARGETS[kind]},
        "ratio_of_processor_time": quartiles(processor_ratios),
        "seconds": {name: quartiles(values) for name, values in walls.items()},
        "pairs": pairs,
    }


def memory(kind: str) -> dict[str, float]:
    """Mebibytes that one step keeps for its backward pass, and by which the resident size peaks over the idle model."""
    step = build(kind)
    model: torch.nn.Module = step.model  # type: ignore[attr-defined]
    owned = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return {
        "kept_for_backward_mib": round(sum(kept.values()) / 2**20, 1),
        "peak_over_idle_mib": round((peak - idle) / 2**10, 1),
    }


def in_own_process(kind: str, threads: int) -> dict[str, float]:
    """``memory`` in a fresh interpreter, so that no other model's peak is counted."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.cost.step_time",
        "--memory-of",
        kind,
        "--threads",
        str(threads),
    ]
    answer: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60, help="alternating pairs of steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--only", choices=sorted(TARGETS), help="compare this one alone, print, write nothing"
    )
    parser.add_argument("--memory-of", choices=("lora", *sorted(TARGETS)), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "step_time.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(memory(options.memory_of)))
        return 0
    if options.only:
        print(json.dumps(compare(options.only, options.pairs), indent=2))
        return 0
    # First, while this process is small: on Linux a child's peak starts from what its parent held.
    memories = {kind: in_own_process(kind, options.threads) for kind in ("lora", *TARGETS)}
    result = {
        "command": f"python -m benchmarks.cost.step_time --pairs {options.pairs} --threads {options.threads}",
        "setting": "Llama, 512 wide, 8 layers, MLP 1376, fp32; r 64 on 7 projections; 4 x 192 tokens; fused AdamW",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": options.threads,
        },
        "step": {kind: compare(kind, options.pairs) for kind in TARGETS},
        "memory": memories,
    }
    write_atomic(options.out, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    kinds = ("ratio", "ratio_of_processor_time")
    met = all(
        result["step"][kind][ratio]["median"] <= target
        for kind, target in TARGETS.items()
        for ratio in kinds
    )
    print("targets met" if met else "TARGETS MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
