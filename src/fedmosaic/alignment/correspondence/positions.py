"""Match the tokens of two models that encode the same example.

A token is described by its place in the example (:mod:`fedmosaic.models.token_origins`). Neither
side needs the other's tokenizer, chat template or image processor: :func:`match_origins` compares
two tables of numbers, and either of them may have been received from another machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.token_origins import TokenKind

_Span = tuple[int, int]


@dataclass(frozen=True)
class Matching:
    """Group the corresponding tokens of two models, numbered in reading order of the first.

    Every group has at least one token on both sides.

    Attributes:
        first: int64 [n1], the group of each token of the first model's ``encode(example)``; -1 for
            a token without a counterpart.
        second: int64 [n2], the same of the second model.
        kind: int64 [count], the :class:`~fedmosaic.models.token_origins.TokenKind` of each group.
    """

    first: Tensor
    second: Tensor
    kind: Tensor

    @property
    def count(self) -> int:
        """Return the number of groups."""
        return len(self.kind)

    @property
    def answer(self) -> Tensor:
        """Mark the groups that belong to an answer or predict its first token (bool [count])."""
        return torch.isin(
            self.kind, torch.tensor([TokenKind.ANSWER, TokenKind.PREDICT, TokenKind.END])
        )

    def select(self, chosen: Tensor) -> Matching:
        """Keep the groups where ``chosen`` (bool [count]) is true and number them anew.

        Tokens of the other groups become -1.
        """
        number = torch.where(chosen, chosen.cumsum(0) - 1, -1)
        padded = torch.cat(
            (number, torch.tensor([-1]))
        )  # index -1, a token without a group, stays -1
        return Matching(padded[self.first], padded[self.second], self.kind[chosen])


def match(a: Backbone, b: Backbone, example: Example) -> Matching:
    """Match the tokens of ``a.encode(example)`` and ``b.encode(example)``.

    See :func:`match_origins`.

    Raises:
        DataError: the two encodings share no text.
        ModelError: as :meth:`Backbone.token_origins`.
    """
    first = a.token_origins(example)
    second = first if a is b else b.token_origins(example)
    return match_origins(first, second, example.id)


def match_origins(first: Tensor, second: Tensor, name: str = "?") -> Matching:
    """Match the tokens of two encodings by their place in the example.

    - Equal tables (one tokenizer and template): token t corresponds to token t, template tokens
      included.
    - Text: a turn is cut wherever both tokenizations have a cut. The tokens between two such cuts
      are one group. Tokens of white space alone belong to the text that follows them; at the end
      of a turn they belong to the text before them.
    - Images: place by place. With different grids, a cell of the finer grid belongs to the cell of
      the coarser grid that contains its centre. A class token (a square number plus one)
      corresponds to a class token. Counts that form no grid are compared as places on a line.
    - The token that predicts the first token of an assistant's answer, and the token that ends the
      answer, each correspond to the other model's. Other template tokens have no counterpart.

    Args:
        first: int64 [n1, 4], as :meth:`Backbone.token_origins` returns it.
        second: int64 [n2, 4], of the other model.
        name: id of the example, for messages.

    Raises:
        DataError: no common text, because the examples differ or a template rewrites its input.
    """
    if torch.equal(first, second):
        every = torch.arange(len(first))
        return Matching(every, every, first[:, 0].clone())
    rows = (first.tolist(), second.tolist())
    cuts = _common_cuts(*rows)
    grids = _common_grids(*rows)
    keys = [[_key(row, cuts, grids) for row in table] for table in rows]
    shared = set(keys[0]) & set(keys[1]) - {None}
    numbers: dict[Hashable, int] = {}
    kinds: list[int] = []
    for key, row in zip(keys[0], rows[0], strict=True):
        if key in shared and key not in numbers:
            numbers[key] = len(numbers)
            kinds.append(row[0])
    if not {TokenKind.TEXT, TokenKind.ANSWER}.intersection(kinds):
        raise DataError(
            f"example {name!r}: the two models' encodings share no text. Check that both were made "
            "from the same example"
        )
    groups = [
        torch.tensor([numbers.get(key, -1) for key in side], dtype=torch.int64) for side in keys
    ]
    return Matching(groups[0], groups[1], torch.tensor(kinds, dtype=torch.int64))


def number_places(tables: Sequence[Tensor]) -> list[Tensor]:
    """Give numbers to the image tokens of several encodings: equal numbers are equal places.

    Places are compared as in :func:`match_origins`, in the coarsest of all grids.

    Args:
        tables: as :meth:`Backbone.token_origins` returns them, of any models and examples with the
            same number of images.

    Returns:
        for each table int64 [image tokens], counted from 0; -1 for a place that not all have.
    """
    rows = [[row for row in table.tolist() if row[0] == TokenKind.IMAGE] for table in tables]
    grids = _common_grids(*rows)
    keys = [[_key(row, {}, grids) for row in table] for table in rows]
    shared = set.intersection(*map(set, keys)) - {None}
    numbers = {key: n for n, key in enumerate(dict.fromkeys(k for k in keys[0] if k in shared))}
    return [torch.tensor([numbers.get(key, -1) for key in own], dtype=torch.int64) for own in keys]


def pool(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Average ``values`` [n, d] over each group; tokens of group -1 are left out.

    Returns:
        means [count, d], in float32 at least.
    """
    used = groups >= 0
    wide = values[used].to(torch.promote_types(values.dtype, torch.float32))
    index = groups[used].to(values.device)
    sums = wide.new_zeros(count, wide.shape[1]).index_add_(0, index, wide)
    return sums / torch.bincount(index, minlength=count).clamp_min(1).to(wide.dtype)[:, None]


def stack(groups: Sequence[Tensor], counts: Sequence[int], width: int) -> Tensor:
    """Arrange the groups of several examples as a batch that is padded on the left.

    Groups are numbered on from example to example, so that
    ``pool(states.flatten(0, 1), stack(…).flatten(), sum(counts))`` gives the means of all examples,
    one after the other.

    Returns:
        int64 [n, width].
    """
    table = torch.full((len(groups), width), -1)
    offset = 0
    for row, group, count in zip(table, groups, counts, strict=True):
        row[width - len(group) :] = torch.where(group >= 0, group + offset, -1)
        offset += count
    return table


def _key(row: list[int], cuts: dict[int, list[int]], grids: dict[int, tuple[int, int]]) -> Hashable:
    """Return a key that corresponding tokens share; None for a token without a counterpart."""
    kind, where, start, end = row
    if kind in (TokenKind.TEXT, TokenKind.ANSWER):
        turn = cuts.get(where, [])
        segment = bisect_right(turn, start)
        if start == end:  # white space at the end of the turn
            segment = min(segment, len(turn) - 1)
        return ("text", where, segment) if 0 < segment < len(turn) else None
    if kind == TokenKind.IMAGE:
        return ("image", where, _cell(start, end, *grids[where])) if where in grids else None
    return (kind, where) if kind in (TokenKind.PREDICT, TokenKind.END) else None


def _common_cuts(*tables: list[list[int]]) -> dict[int, list[int]]:
    """List, for each turn in both tables, the places where both cut its text, in order."""
    sides: list[dict[int, list[int]]] = []
    for table in tables:
        spans: dict[int, list[_Span]] = {}
        for kind, turn, start, end in table:
            if kind in (TokenKind.TEXT, TokenKind.ANSWER):
                spans.setdefault(turn, []).append((start, end))
        sides.append({turn: _cuts(found) for turn, found in spans.items()})
    return {
        turn: sorted({*cuts} & {*sides[1][turn]})
        for turn, cuts in sides[0].items()
        if turn in sides[1]
    }


def _cuts(spans: list[_Span]) -> list[int]:
    """List the starts and ends that lie inside no span, by merging the spans that overlap."""
    cuts: set[int] = set()
    reach = -1
    for start, end in sorted(spans):
        if start >= reach:
            cuts |= {start, reach}
        reach = max(reach, end)
    return sorted(cuts - {-1} | {reach})


def _common_grids(*tables: list[list[int]]) -> dict[int, tuple[int, int]]:
    """Give, for each image in all tables, the smallest count of places and the smallest side.

    The side is 0 if one of the counts forms no grid.
    """
    sides = [{row[1]: row[3] for row in table if row[0] == TokenKind.IMAGE} for table in tables]
    counts = {image: {side.get(image, 0) for side in sides} for image in sides[0]}
    return {
        image: (min(places), min(_grid(count)[1] for count in places))
        for image, places in counts.items()
        if 0 not in places
    }


def _cell(place: int, places: int, coarse: int, side: int) -> Hashable:
    """Return the cell of the coarser grid that contains the centre of a place.

    The coarser grid has ``side`` x ``side`` cells, or ``coarse`` places on a line if ``side`` is 0.
    """
    if not side:
        return _nearest(place, places, coarse)
    class_token, own = _grid(places)
    if place < class_token:
        return "class"
    row, column = divmod(place - class_token, own)
    return _nearest(row, own, side), _nearest(column, own, side)


def _nearest(place: int, places: int, coarse: int) -> int:
    return (2 * place + 1) * coarse // (2 * places)


def _grid(places: int) -> tuple[int, int]:
    """Return the number of class tokens (0 or 1) before a square grid, and the grid's side.

    The side is 0 for a number of places that forms no grid.
    """
    for class_token in (0, 1):
        side = isqrt(max(places - class_token, 0))
        if side and side * side == places - class_token:
            return class_token, side
    return 0, 0
