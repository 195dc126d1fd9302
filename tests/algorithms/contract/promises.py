"""List what algorithms promise beyond what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable

from tiny_federation import LAYERS, SCENARIO

from fedmosaic.algorithms import algorithm_names

ALGORITHMS = sorted(algorithm_names())
SILENT = "fedmosaic-no-communication"
FEDMOSAIC = [name for name in ALGORITHMS if name.startswith("fedmosaic") and name != SILENT]
COSINE = {**SCENARIO["train"], "schedule": "cosine"}


def _local(key: str) -> bool:
    return key.startswith("local/")


# Adapter tensors that never travel and that no download changes. Gates are not listed.
PERSONAL: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(("sft", SILENT), _local),
    "fedper": lambda key: key.startswith(f"local/layer.{LAYERS - 1}."),
    "fedsa-lora": lambda key: key.endswith(".B"),
    "fedmosaic-private": lambda key: key.startswith("local/block."),
    "fedmosaic-partial": lambda key: key.startswith("local/layer."),
    **dict.fromkeys(("ditto", "fedsim", "feddat", "feddpa", "perada"), _local),
}
# Personal tensors do not even influence the training of what travels.
INDEPENDENT = ("ditto", "perada", "feddpa")
# The adapters that a download is copied into.
LANDS_IN = {
    **dict.fromkeys(("fedavg", "fedprox", "scaffold", "fedper"), ("local",)),
    **dict.fromkeys(("pooled", "pooled-group"), ("local",)),
    **dict.fromkeys(("hetlora", "flexlora", "raflora", "fedsa-lora", "ffa-lora"), ("local",)),
    **dict.fromkeys(("fedex-lora", "rolora", "fed-sb"), ("local",)),
    **dict.fromkeys((*FEDMOSAIC, "ditto", "fedsim", "perada", "fedalt"), ("global",)),
    **dict.fromkeys(("feddat", "feddpa"), ("global", "received")),
}
# A client receives what the others of its architecture sent; one that is alone receives nothing.
LEAVES_OUT_THE_RECEIVER = ("fedalt",)
# A federation of one client trains as sft does. Name, adapter that equals sft's, rounds, options:
SINGLE_CLIENT = [
    ("fedavg", "local", 1, {}),
    ("fedprox", "local", 1, {"mu": 0.0}),
    ("scaffold", "local", 1, {}),
    ("fedper", "local", 1, {}),
    ("fedex-lora", "local", 1, {}),
    ("ditto", "global", 1, {}),
    ("ditto", "local", 2, {"lam": 0.0}),
    ("perada", "local", 2, {"lam": 0.0}),
]
# Mixed anew for each input: no LoRA is equal to that mixture.
NO_EXPORT = ("feddpa", "fedalt")
