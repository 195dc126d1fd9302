"""Ablations and controls: algorithms that are another one with settings of their own.

    fedmosaic run miniature/hetero --algorithm fedmosaic-uniform

A preset's settings stand over the scenario's. Its options are those of the algorithm it is made of (``algorithms.fedmosaic``), then the
preset's, then what the scenario says under the preset's own name (``algorithms.fedmosaic-pull``). The run folder records the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.config import Scenario
from fedmosaic.config.load import merge, parse


@dataclass(frozen=True)
class Preset:
    """An algorithm with settings of its own.

    Attributes:
        of: the algorithm. summary: as shown by ``fedmosaic list algorithms``.
        settings: laid over the scenario. options: of the algorithm.
    """

    of: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    "fedmosaic-uniform": Preset(
        "fedmosaic", "control: every peer weighs the same", {"relevance": {"kind": "uniform"}}
    ),
    "fedmosaic-permuted": Preset(
        "fedmosaic",
        "control: RELA's weights handed to the wrong peers",
        {"relevance": {"kind": "permuted"}},
    ),
    "fedmosaic-random": Preset(
        "fedmosaic",
        "control: two random peers alike, drawn anew each round",
        {"relevance": {"kind": "random", "sources": 2}},
    ),
    "fedmosaic-oracle": Preset(
        "fedmosaic",
        "ORACLE: weights by the true overlap of the clients' task families",
        {"relevance": {"kind": "oracle"}},
    ),
    "fedmosaic-top2": Preset(
        "fedmosaic", "only the two most relevant peers", {"relevance": {"top_k": 2}}
    ),
    "fedmosaic-sharp": Preset(
        "fedmosaic",
        "extension: RELA's temperature in standard deviations of the similarities, however noisy they are",
        {"relevance": {"relative_tau": 0.5}},
    ),
    "fedmosaic-unaligned": Preset(
        "fedmosaic",
        "ablation: every model keeps A and B of its own, none aligned",
        {"alignment": {"method": "none"}},
    ),
    "fedmosaic-turned": Preset(
        "fedmosaic",
        "control: aligned A, B turned by rotations of each architecture's own: as strong, and foreign P, Q mean nothing",
        options={"turned": True},
    ),
    "fedmosaic-within": Preset(
        "fedmosaic",
        "ablation: P, Q shared within an architecture only",
        options={"share": "architecture"},
    ),
    "fedmosaic-beside": Preset(
        "fedmosaic",
        "extension: the others' P, Q at double strength beside the mix of the own architecture",
        options={"foreign": 2.0},
    ),
    "fedmosaic-private": Preset(
        "fedmosaic",
        "ablation: P, Q not shared, only ordinary LoRA within an architecture",
        options={"share": "none"},
    ),
    "fedmosaic-partial": Preset(
        "fedmosaic",
        "partial averaging: only P, Q shared, ordinary LoRA private",
        options={"share_layers": "none"},
    ),
    "fedmosaic-lora": Preset(
        "fedmosaic",
        "homogeneous: ordinary LoRA on every layer, mixed within an architecture",
        {"adapter": {"num_blocks": 0}},
    ),
    "fedmosaic-no-gate": Preset(
        "fedmosaic",
        "ablation: local and global branch added, no gate",
        {"adapter": {"gate": "none"}},
    ),
    "fedmosaic-pull": Preset(
        "fedmosaic",
        "extension: a fifth of the global adapter enters the local one each round",
        options={"pull": 0.2},
    ),
}


def preset(name: str, scenario: Scenario) -> Scenario:
    """The scenario with the settings and options of the preset of that name; once more changes nothing."""
    chosen = PRESETS[name]
    content = merge(scenario.model_dump(), chosen.settings)
    own = scenario.algorithms
    options = {**own.get(chosen.of, {}), **chosen.options, **own.get(name, {})}
    return parse(Scenario, {**content, "algorithms": {**own, name: options}}, name)
