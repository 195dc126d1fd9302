"""Compare a training step of the FedMosaic adapter with one of PEFT's LoRA: time and memory.

  python -m benchmarks.cost.step_time [--pairs 60] [--threads 1] [--vision]

Models: Llama, 512 wide, 8 layers, and Qwen2-VL with a language model of this size and a tower of
0.56 of its weights; random weights, fp32. LoRA and FedMosaic have rank 64 on all seven projections.
A step takes 4 x 192 tokens, or 4 images of 224 x 224 pixels with 98 tokens each: forward pass,
backward pass, fused AdamW.

  lora        PEFT's LoRA
  fedmosaic   Co-LoRA on 4 block ends, LoRA on the other layers; local and global adapter, scalar
              gate
  colora      the same with Co-LoRA on every layer
  packed      fedmosaic with `train.packed_weights`, which has no effect but on AMD with AVX-512

With --vision, the models are vision-language models:

  vision_lora, vision_fedmosaic   LoRA and fedmosaic with the features of images from fedmosaic's
              cache. They are compared with plain Transformers and PEFT's LoRA, which get pixels in
              each step, already preprocessed.

The machine may be busy with other work. Steps therefore alternate (baseline, ours, ours, baseline,
…), and the result is the median of the ratios of neighbours: of wall time, and of processor time,
which waiting for a core does not change. Memory is measured in one process for each adapter on the
Llama: the bytes that autograd saves from the forward pass for the backward pass, and the growth of
the peak resident size over training. Writes results/step_time.json, or with --vision
results/step_time_vision.json; the exit status is 1 if a target is missed.
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
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.cost.training_steps import language_step, vision_step

LANGUAGE = {"fedmosaic": 1.10, "colora": 0.95, "packed": 1.10}
VISION = {"vision_lora": 0.8, "vision_fedmosaic": 0.8}
TARGETS = LANGUAGE | VISION
SETTING = (
    "Llama, 512 wide, 8 layers, MLP 1376, fp32; r 64 on 7 projections; 4 x 192 tokens; fused AdamW"
)
VISION_SETTING = (
    "Qwen2-VL, 512 wide, 8 layers, MLP 1376, tower 384 wide, 6 layers, fp32; "
    "r 64 on 7 projections; 4 images of 224 x 224, 4 x 98 tokens; fused AdamW"
)
MEMORY = ("lora", "fedmosaic", "colora")


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the quartiles with four digits."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 4), "quartile_1": round(low, 4), "quartile_3": round(high, 4)}


def compare(kind: str, pairs: int) -> dict[str, Any]:
    """Alternate steps of PEFT's LoRA with steps of an adapter and return the ratios.

    Args:
        kind: a kind of :data:`TARGETS`.
        pairs: number of pairs of steps.
    """
    vision, adapter = kind.startswith("vision_"), kind.removeprefix("vision_")
    lora = vision_step("lora", cached=False) if vision else language_step("lora")
    ours = vision_step(adapter, cached=True) if vision else language_step(adapter)
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


def measure_memory(kind: str) -> dict[str, float]:
    """Return the memory of a training step in MiB.

    Args:
        kind: ``lora``, ``fedmosaic`` or ``colora``.

    Returns:
        ``saved_for_backward_mib``: tensors that the forward pass saves for the backward pass;
        ``peak_over_idle_mib``: growth of the peak resident size over that of the idle model.
    """
    step = language_step(kind)
    owned = {
        t.untyped_storage().data_ptr() for t in (*step.model.parameters(), *step.model.buffers())
    }
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return {
        "saved_for_backward_mib": round(sum(saved.values()) / 2**20, 1),
        "peak_over_idle_mib": round((peak - idle) / 2**10, 1),
    }


def memory_in_own_process(kind: str, threads: int) -> dict[str, float]:
    """Measure the memory in a fresh interpreter, where no other model has raised the peak."""
    command = [sys.executable, "-m", "benchmarks.cost.step_time"]
    command += ["--memory-of", kind, "--threads", str(threads)]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return found


def measure_all(pairs: int, threads: int, vision: bool) -> dict[str, Any]:
    """Return the content of the result file."""
    # Memory comes first, while this process is small: on Linux, the peak of a child process starts
    # from the memory of its parent.
    memory = {} if vision else {kind: memory_in_own_process(kind, threads) for kind in MEMORY}
    option = " --vision" if vision else ""
    return {
        "command": "python -m benchmarks.cost.step_time"
        f"{option} --pairs {pairs} --threads {threads}",
        "setting": VISION_SETTING if vision else SETTING,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": threads,
            "load_average": round(os.getloadavg()[0], 1),
        },
        "step": {kind: compare(kind, pairs) for kind in (VISION if vision else LANGUAGE)},
        **({"memory": memory} if memory else {}),
    }


def targets_met(result: dict[str, Any]) -> bool:
    """Return whether the median ratios of wall and processor time are within the targets."""
    return all(
        row[ratio]["median"] <= TARGETS[kind]
        for kind, row in result["step"].items()
        for ratio in ("ratio", "ratio_of_processor_time")
    )


def main() -> int:
    """Measure and write the result; return 1 if a target is missed."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--pairs", type=int, default=60, help="alternating pairs of steps (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--vision", action="store_true", help="vision-language models")
    parser.add_argument(
        "--only", choices=sorted(TARGETS), help="compare this adapter alone; write no result"
    )
    parser.add_argument("--memory-of", choices=MEMORY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(measure_memory(options.memory_of)))
        return 0
    if options.only:
        print(json.dumps(compare(options.only, options.pairs), indent=2))
        return 0
    result = measure_all(options.pairs, options.threads, options.vision)
    write_result("step_time_vision" if options.vision else "step_time", result, indent=2)
    print(json.dumps(result, indent=2))
    met = targets_met(result)
    print("targets met" if met else "TARGETS MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
