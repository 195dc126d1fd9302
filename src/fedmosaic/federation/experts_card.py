"""Write the card of a client that is exported with its experts: what it holds, and how to route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmosaic.config import ClientSpec, RunSettings

STATES = {"mean": "m / |m|", "last": "l / |l|", "both": "[m / |m|, l / |l|] / √2"}
"""Formula of a prompt's features from mean m and last l of the states of its tokens."""

ROUTER = '''import json

import torch
from safetensors.torch import load_file

facts = json.load(open("router.json"))
router = load_file("router.safetensors")


def features(states):
    """Features of a prompt from its hidden states of the shared model, [tokens, width]."""
    both = (states.float().mean(0), states[-1].float())
    chosen = {"both": both, "mean": both[:1], "last": both[1:]}[facts["features"]["states"]]
    limits = [facts["features"]["most_medians"] * part.abs().median() for part in chosen]
    clipped = [part.clamp(-most, most) if most else part for part, most in zip(chosen, limits)]
    return torch.cat([part / part.norm() for part in clipped]) / len(chosen) ** 0.5


def choose(features):
    """Name of the model that answers: a key of facts["models"]."""
    z = ((features.double() - router["mean"]) / router["std"])[None]
    if len(router["own"]) and torch.cdist(z, router["own"]).min() <= facts["threshold"]:
        return "own"
    least = [torch.cdist(z, router[f"prototypes/{name}"]).min() for name in facts["experts"]]
    if not least or (facts["radius"] is not None and min(least) > facts["radius"]):
        return facts["otherwise"]
    return "expert " + facts["experts"][least.index(min(least))]
'''
"""Code that routes with torch alone; run in the exported folder."""


def experts_card(
    settings: RunSettings, client: ClientSpec, rounds: int, facts: Mapping[str, Any], prompts: int
) -> str:
    """Return the text of ``README.md``.

    Args:
        settings: the run.
        client: the client.
        rounds: number of finished rounds.
        facts: the content of ``router.json``.
        prompts: number of own prompts in ``router.safetensors``.
    """
    return "\n\n".join(
        [
            f"# Client {client.name} with its experts",
            f"LoRA adapters of PEFT for `{client.model}`, trained with "
            "[fedmosaic](https://pypi.org/project/fedmosaic/): scenario "
            f"`{settings.name}`, algorithm `{settings.algorithm}`, seed {settings.seed}, after "
            f"{rounds} of {settings.scenario.rounds} rounds. One of them answers each input.",
            "## Models",
            _models(facts),
            "## Which one answers",
            _choice(facts),
            f"```python\n{ROUTER}```",
            "## What it reveals",
            f"`own` in `router.safetensors` holds the features of {prompts} of the client's "
            "training prompts, one row each. Who has the file and the shared model can test "
            "whether a prompt was trained on, and nothing hides it. The prototypes are those that "
            "the experts' clients published. Give the folder only to those who may see the "
            "client's data; a single adapter (`fedmosaic export` without `--experts`) has no "
            "features.",
            "",
        ]
    )


def _models(facts: Mapping[str, Any]) -> str:
    lines = ["| model | folder | options are ranked by |", "|---|---|---|"]
    for name, one in facts["models"].items():
        how = "likelihood minus that of the base model" if one["by_difference"] else "likelihood"
        lines.append(f"| {name} | `{one['folder']}` | {how} |")
    return "\n".join(lines)


def _choice(facts: Mapping[str, Any]) -> str:
    found = facts["features"]
    radius = "always" if facts["radius"] is None else f"if it is no farther than {facts['radius']}"
    return (
        f"Features of a prompt are computed with `{found['model']}`: run it on the prompt as its "
        "chat template writes it, with its images, up to where the answer begins, in "
        f"{found['dtype']}. Take the hidden states of all tokens {_where(found)}. "
        "With m the mean of the states and l the last one, the values of each clipped to "
        f"±{found['most_medians']:g} times the median of its magnitudes, the features are "
        f"{STATES[found['states']]}: {found['size']} numbers.\n\n"
        "With z = (features − `mean`) / `std` and Euclidean distances:\n\n"
        f"1. `own`, if the nearest row of `own` is no farther than {facts['threshold']} (the "
        f"quantile {facts['quantile']} of the distances of own prompts to their nearest other "
        "one).\n"
        f"2. Otherwise the expert with the nearest row of `prototypes/NAME`, {radius}.\n"
        f"3. Otherwise `{facts['otherwise']}`.\n\n"
        "`router.json` holds these numbers for programs; `experts` and `models` name the models."
    )


def _where(found: Mapping[str, Any]) -> str:
    """Say which hidden states are taken."""
    if found["normed"]:
        return "after the last layer and the final norm (`hidden_states[-1]`)"
    if found["layer"] < found["layers"]:
        return (
            f"after layer {found['layer']} of {found['layers']} (`hidden_states[{found['layer']}]`)"
        )
    return "after the last layer, before the final norm"
