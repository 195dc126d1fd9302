"""Show which modules of each model carry adapters, and what the models share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.errors import listed
from fedmosaic.reporting.terminal import Column, TextTable
from fedmosaic.reporting.units import percent

HEADINGS = ("model", "adapted layers", "share of parameters", "adapted modules", "not adapted")


def placement_parts(found: Mapping[str, Any]) -> list[TextTable | str]:
    """Return a table of the models, and what they share, for the terminal.

    Args:
        found: what :func:`fedmosaic.federation.placement.describe` returns.
    """
    table = TextTable([Column(text, wrap=text != "model") for text in HEADINGS])
    for row in placement_rows(found):
        table.add(*row)
    return [table, *shared_lines(found)]


def placement_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row of :data:`HEADINGS` for each model."""
    return [
        (
            name,
            f"{model['adapted_layers']} of {model['layers']}",
            f"{percent(model['share'])} %",
            _roles(model),
            "; ".join(_left_out(part) for part in model["left_out"]),
        )
        for name, model in found["models"].items()
    ]


def shared_lines(found: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the models share."""
    shared: Sequence[Sequence[str]] = found["shared"]
    if not shared:
        return _exchanged(found)
    names = list(found["models"])
    who = "between all models" if len(names) > 1 else "between the clients of the one model"
    if all(roles == shared[0] for roles in shared):
        where = f"ends of {len(shared)} blocks" if len(shared) > 1 else "end of the one block"
        what = [f"{', '.join(shared[0])} at the {where}"]
    else:
        what = [
            f"{', '.join(roles) or 'nothing'} at the end of block {block}"
            for block, roles in enumerate(shared)
        ]
    lines = [f"shared {who} (Co-LoRA): {'; '.join(what)}"]
    for name, model in found["models"].items():
        if model["own"]:
            lines.append(
                f"not shared at block ends, because not every model has them there: "
                f"{', '.join(model['own'])} of {name} (ordinary LoRA)"
            )
    return lines


def _exchanged(found: Mapping[str, Any]) -> list[str]:
    """Return what an algorithm without Co-LoRA shares, and which clients have one model."""
    if not found.get("exchange"):  # of a run before it was written, or of a check of models
        return []
    lines = [f"shared: {found['exchange']}"]
    if len(found["models"]) > 1:
        named = ((name, listed(one["clients"])) for name, one in found["models"].items())
        parts = "; ".join(f"{clients} on {name}" for name, clients in named)
        lines.append(f"clients by model: {parts}")
    return lines


def _roles(model: Mapping[str, Any]) -> str:
    """Return the adapted modules, with the number of layers where not every layer has them."""
    whole = model["layers"]
    return ", ".join(
        role if count == whole else f"{role} ({count} layers)"
        for role, count in model["roles"].items()
    )


def _left_out(part: Mapping[str, Any]) -> str:
    share = percent(part["share"])
    reason = "" if part["reason"] == "never adapted" else f": {part['reason']}"
    return f"{part['part']} ({share} %{reason})"
