"""Find the stored alignments of a group of models that were refined together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmosaic.alignment import store
from fedmosaic.alignment.identity import Identity
from fedmosaic.alignment.store import Alignment, find_alignment, find_in_folder, load_alignment
from fedmosaic.errors import CheckpointError


def find_group(identities: Sequence[Identity]) -> list[Alignment] | None:
    """Return the stored alignments of a group that was refined together, or None.

    Among the alignments of the package, a larger group is accepted too, because all of its members
    are aligned with one another.

    Raises:
        CheckpointError: as :func:`~fedmosaic.alignment.store.find_alignment`.
    """
    found = [find_alignment(identity) for identity in identities]
    whole = [one for one in found if one is not None]
    if len(whole) == len(identities):
        return whole
    for group in _groups(store.BUNDLED):
        as_members = [replace(one, settings={**one.settings, "group": group}) for one in identities]
        found = [find_in_folder(store.BUNDLED, identity) for identity in as_members]
        whole = [one for one in found if one is not None]
        if len(whole) == len(identities):
            return whole
    return None


def load_group(folder: Path, pivot: Identity) -> dict[str, Alignment]:
    """Load the group in a folder that was refined with this pivot on the same data and settings.

    Args:
        folder: holds the files of the group.
        pivot: identity of the pivot's alignment to itself, without a group.

    Returns:
        the alignments by the fingerprint of their model.

    Raises:
        CheckpointError: the folder holds no such group, a group of other settings (the message
            names the differences), or several groups.
    """
    made = [load_alignment(path) for path in sorted(folder.glob("*.safetensors"))]
    members = [
        one
        for one in made
        if "group" in one.settings and one.identity.pivot_weights == pivot.pivot_weights
    ]
    pivots = [one for one in members if one.identity.model_weights == pivot.model_weights]
    if not pivots:
        raise CheckpointError(
            f"{folder} holds no refined alignment of {pivot.pivot} to join; make one with: "
            f"fedmosaic align MODEL… --pivot {pivot.pivot} --refine --out {folder}"
        )
    fitting = [one for one in pivots if not _differences(one, pivot)]
    if not fitting:
        changed = "; ".join(_differences(pivots[0], pivot))
        raise CheckpointError(
            f"{folder} was refined with other data or settings than requested: {changed}. Use the "
            "same public data, size, seed and settings"
        )
    if len(fitting) > 1:
        raise CheckpointError(
            f"{folder} holds {len(fitting)} groups that were refined with {pivot.pivot}; put each "
            "into a folder of its own"
        )
    group = fitting[0].settings["group"]
    return {
        one.identity.model_weights: one
        for one in members
        if one.settings["group"] == group
        and not _differences(one, replace(pivot, model_weights=one.identity.model_weights))
    }


def _differences(made: Alignment, wanted: Identity) -> list[str]:
    """List the differences of an alignment from a wanted identity, except for its group."""
    return replace(
        made.identity, settings={k: v for k, v in made.settings.items() if k != "group"}
    ).changes(wanted)


def _groups(folder: Path) -> list[list[str]]:
    """List the groups of the refined alignments in a folder."""
    groups = [
        load_alignment(path).settings.get("group") for path in sorted(folder.glob("*.safetensors"))
    ]
    return [group for number, group in enumerate(groups) if group and group not in groups[:number]]
