"""Learn, besides the trained adapter, a P and Q for models of other architectures."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Client
from fedmosaic.alignment.transfer import CoLoraFrame, from_margins, record_margins

ROWS, SEEN = "moved rows", "moved seen"
"""Names in a client's state: effects on margins, and the number of examples that were looked at."""


def learn_moved(client: Client, most: int) -> dict[str, Tensor]:
    """Return the P and Q that the client's examples so far ask for, for models of others.

    Each example costs one forward and one backward pass of the base model, once in the run
    (:func:`~fedmosaic.alignment.transfer.record_margins`). The effects stay in the client's state,
    2 bytes for each value of P and Q and example. P and Q follow from all of them in closed form.

    Args:
        client: its model carries Co-LoRA in the adapter ``local``.
        most: examples that count, evenly drawn from all.

    Returns:
        ``block.{k}.{module}.P`` and ``.Q``; zeros as long as there are no examples.
    """
    frame = frame_of(client)
    rows, seen = client.state.get(ROWS), int(client.state.get(SEEN, torch.zeros(1)))
    arrived = client.arrived()
    chosen = [arrived[i] for i in range(seen, len(arrived)) if _counts(i, most, client.samples)]
    if rows is None or chosen:
        found = record_margins(client.backbone, frame, chosen).bfloat16()
        rows = found if rows is None else torch.cat([rows, found])
    if len(rows):
        client.state |= {ROWS: rows, SEEN: torch.tensor([len(arrived)])}
    return from_margins(frame, rows.float())


def frame_of(client: Client) -> CoLoraFrame:
    """Return where the client's model carries Co-LoRA, and its A and B."""
    found: CoLoraFrame = client.cached(
        f"frame of {client.backbone.name}", lambda: CoLoraFrame.of(client.model)
    )
    return found


def _counts(place: int, most: int, samples: int) -> bool:
    """Return whether the example at a place of the arrival order is one of the chosen."""
    most = min(most, samples)
    return place * most // samples != (place - 1) * most // samples
