"""Learn, besides the trained adapter, P and Q for models of other architectures."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Client
from fedmosaic.alignment.transfer import CoLoraFrame, from_margins, record_margins
from fedmosaic.relevance.familiarity import Standardised, distances
from fedmosaic.relevance.prototypes import parts_of

ROWS, SEEN = "moved rows", "moved seen"
"""Names in a client's state: effects on margins, and the number of examples that were looked at."""
OTHER_PARTS = 0.3
"""Weight of the examples of other parts. Where a part is a task it is about as good as none; where
a task is divided for no reason, P and Q are as good as those of the whole."""


def learn_moved(
    client: Client, most: int, count: int, sent: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the P and Q that the client's examples so far ask for, for models of others.

    One P for several tasks is worse at each of them. The client's prompts are therefore divided,
    by their prototypes, and each part has a P and Q of its own. Other parts' examples count less.

    Each example costs one forward and one backward pass of the base model, once in the run
    (:func:`~fedmosaic.alignment.transfer.record_margins`). The effects stay in the client's state,
    2 bytes for each value of P and Q and example. P and Q follow from all of them in closed form.

    Args:
        client: its model carries Co-LoRA in the adapter ``local``.
        most: examples that count, evenly drawn from all.
        count: most parts.
        sent: the client's prototypes as it sends them, [k, f].

    Returns:
        ``{part}/block.{k}.{module}.P`` and ``.Q`` of all parts, counted from 0, zeros as long as
        there are no examples and for parts without a prototype; the part of each prototype, float32
        [k].
    """
    frame, rows = frame_of(client), _rows(client, most)
    prompts = client.prompt_features()
    scale = Standardised.of(prompts)
    part = parts_of(scale(sent), count)
    chosen = [i for i in range(len(prompts)) if _counts(i, most, client.samples)]
    nearest = distances(scale(prompts[chosen]), scale(sent)).argmin(1)
    found: dict[str, Tensor] = {}
    for number in range(count):
        inside = part[nearest] == number
        used = rows if number in part else rows[:0]
        weights = torch.where(inside, 1.0, OTHER_PARTS)[: len(used)]
        pair = from_margins(frame, used.float(), weights=weights)
        found |= {f"{number}/{key}": value for key, value in pair.items()}
    return found, part.float()


def _rows(client: Client, most: int) -> Tensor:
    """Return the effects of all chosen examples so far, [n, d]; those of new ones are computed."""
    rows, seen = client.state.get(ROWS), int(client.state.get(SEEN, torch.zeros(1)))
    arrived = client.arrived()
    chosen = [arrived[i] for i in range(seen, len(arrived)) if _counts(i, most, client.samples)]
    if rows is None or chosen:
        found = record_margins(client.backbone, frame_of(client), chosen).bfloat16()
        rows = found if rows is None else torch.cat([rows, found])
    if len(rows):
        client.state |= {ROWS: rows, SEEN: torch.tensor([len(arrived)])}
    return rows


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
