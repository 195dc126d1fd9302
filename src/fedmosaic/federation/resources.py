"""Choose threads and worker processes, and prepare torch for a run."""

from __future__ import annotations

import ctypes
import os
import sys

from fedmosaic.config import ModelSettings, RunSettings, Scenario

VISIBLE = "CUDA_VISIBLE_DEVICES"
# oneDNN and PyTorch's layer over it each keep the code of matrix products by their shape, half a
# megabyte each and 1024 by default, and every batch has other shapes. With 128 the evaluation of a
# miniature made some of them anew each time, which took an eighth of its time.
PRODUCT_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
PRODUCTS = "512"
# Numbers of M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in malloc.h: blocks of that size are given back
# at once, and others when so many bytes are free.
HELD_MEMORY = {-3: 32 << 20, -1: 256 << 20}


def only_miniatures(scenario: Scenario) -> bool:
    """Return whether every client's model is a bundled miniature.

    Miniatures are too small for several threads a process; several processes make them faster.
    """
    return all(client.model.startswith("miniature/") for client in scenario.clients)


def parallel_processes(scenario: Scenario) -> int:
    """Return how many processes suit the machine.

    One for each core with miniatures on a CPU. One with real models, whose memory and device
    are better not divided.
    """
    from fedmosaic.models.options import resolve_device  # imports PyTorch

    on_cpu = resolve_device(scenario.models.device).type == "cpu"
    return (os.cpu_count() or 1) if only_miniatures(scenario) and on_cpu else 1


def expects_workers(settings: RunSettings) -> bool:
    """Return whether the run will have worker processes, if the device is a CPU.

    In contrast to :func:`choose_workers` it does not look for a device, which needs PyTorch.
    """
    scenario = settings.scenario
    on_cpu = scenario.models.device in ("auto", "cpu")
    chosen = (os.cpu_count() or 1) if only_miniatures(scenario) and on_cpu else 1
    return min(settings.workers or chosen, len(scenario.clients)) > 1


def cards(models: ModelSettings) -> list[str]:
    """Return the CUDA cards over which worker processes are spread, as CUDA names them.

    There are none where the settings name one card or spread each model over all of them.
    """
    if models.device not in ("auto", "cuda") or models.device_map != "none":
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get(VISIBLE, "")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [name.strip() for name in names[:count]]


def choose_workers(settings: RunSettings) -> int:
    """Return the number of worker processes: as set, else chosen; at most one for each client.

    On a machine with several cards each gets one.
    """
    chosen = max(len(cards(settings.scenario.models)), parallel_processes(settings.scenario))
    count = settings.workers or chosen
    return max(1, min(count, len(settings.scenario.clients)))


def give_back_freed_memory() -> None:
    """Return the memory that is free to the system, where the C library is glibc; takes 5 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def hold_freed_memory() -> None:
    """Let the C library hold freed memory for the next step, where it is glibc.

    Otherwise it returns the activations of each step to the system, which fills new memory with
    zeros page by page: a twentieth of the time of a small model.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, size in HELD_MEMORY.items():
            mallopt(option, size)


def prepare_torch(settings: RunSettings) -> None:
    """Set torch's thread count, memory and caches, and on CUDA ask for deterministic kernels.

    The thread count is as set; else 1 for miniatures and torch's own choice for other models.
    Deterministic kernels give the same numbers for the same seed on CUDA, too. Memory that they
    write next need not be filled for that.
    """
    import torch

    from fedmosaic.models.options import resolve_device

    hold_freed_memory()
    for variable in PRODUCT_CACHES:  # read when the first product is computed
        os.environ.setdefault(variable, PRODUCTS)
    threads = settings.threads or (1 if only_miniatures(settings.scenario) else 0)
    if threads:
        torch.set_num_threads(threads)
    if resolve_device(settings.scenario.models.device).type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
