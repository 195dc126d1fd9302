"""List the presets: FedMosaic under a name of its own, with other settings of the scenario.

    fedmosaic run miniature/hetero --algorithm fedmosaic-uniform

A preset's settings stand over the scenario's. Its options are those of FedMosaic
(``algorithms.fedmosaic``), then what the scenario has under the preset's own name. The run folder
records the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Configure an algorithm.

    Attributes:
        algorithm: its name.
        summary: one line for ``fedmosaic list algorithms``.
        settings: laid over the scenario's.
    """

    algorithm: str
    summary: str
    settings: Mapping[str, Any]


PRESETS = {
    "fedmosaic-uniform": Preset(
        "fedmosaic", "control: all peers have the same weight", {"relevance": {"kind": "uniform"}}
    ),
    "fedmosaic-permuted": Preset(
        "fedmosaic",
        "control: RELA's weights assigned to the wrong peers",
        {"relevance": {"kind": "permuted"}},
    ),
    "fedmosaic-random": Preset(
        "fedmosaic",
        "control: two random peers with equal weights, drawn anew each round",
        {"relevance": {"kind": "random", "sources": 2}},
    ),
    "fedmosaic-top2": Preset(
        "fedmosaic", "only the two most relevant peers", {"relevance": {"top_k": 2}}
    ),
    "fedmosaic-relative-temperature": Preset(
        "fedmosaic",
        "extension: RELA's temperature in standard deviations of the similarities",
        {"relevance": {"relative_tau": 0.5}},
    ),
    "fedmosaic-unaligned": Preset(
        "fedmosaic",
        "ablation: every model has A and B of its own, none aligned",
        {"alignment": {"method": "none"}},
    ),
    "fedmosaic-lora": Preset(
        "fedmosaic",
        "homogeneous: ordinary LoRA on every layer, mixed within an architecture",
        {"adapter": {"num_blocks": 0}},
    ),
    "fedmosaic-no-gate": Preset(
        "fedmosaic",
        "ablation: local and global branch are added, without a gate",
        {"adapter": {"gate": "none"}},
    ),
}
