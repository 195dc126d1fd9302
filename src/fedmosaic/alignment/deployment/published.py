"""Define what a pivot publishes, so that others can align themselves to it on their own machines.

For every token of every public example it holds the token's place in the example and, for each site
of the pivot, a few numbers such as z = A x and u = Bᵀ ∂L/∂y, both of width r. A model elsewhere
encodes the same public examples, matches its tokens with the published ones, and fits its own A and
B. Neither side needs the other's weights or tokenizer, and no private example is involved.
:mod:`fedmosaic.packing` gives the bytes; received bytes are checked before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fedmosaic.alignment.correspondence.positions import Matching, match_origins
from fedmosaic.data.example import Example, fingerprint
from fedmosaic.errors import DataError, UpdateError
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.packing import pack, unpack

SIZE_LIMIT = 2 << 30
_ORIGINS = "origins"
_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
_LARGEST = 1 << 31

PublishedSchema = Mapping[str, Mapping[str, int]]
"""For each site the names of its quantities and their widths."""


@dataclass(frozen=True)
class PublishedPivot:
    """Hold numbers about the tokens of public examples, example after example.

    Attributes:
        sites: for each site (``block.{k}.{module}``) and quantity (``z``, ``u``, …) a tensor
            [tokens, width] over the tokens of all examples, in any floating type.
        origins: for each example int64 [its tokens, 4], as
            :meth:`Backbone.token_origins` returns it.
        example_ids: id of each example; no two are equal.
        public: :func:`~fedmosaic.data.example.fingerprint` of the examples, with which a receiver
            checks its own.
        about: description of the pivot in values that JSON can hold, such as name and settings.
    """

    sites: Mapping[str, Mapping[str, Tensor]]
    origins: Sequence[Tensor]
    example_ids: Sequence[str]
    public: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.origins)

    @property
    def schema(self) -> PublishedSchema:
        """Return the width of each quantity at each site."""
        return {
            site: {name: value.shape[1] for name, value in values.items()}
            for site, values in self.sites.items()
        }

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Check that these are the examples of the published numbers, in their order.

        Raises:
            DataError: another number of examples, other ids or other content.
        """
        if len(examples) != len(self):
            raise DataError(
                f"the pivot published {len(self)} public examples, but there are {len(examples)} "
                "here; use the same public data"
            )
        for example, published in zip(examples, self.example_ids, strict=True):
            if example.id != published:
                raise DataError(
                    f"the pivot's public example {published!r} is {example.id!r} here; use the "
                    "same public data"
                )
        if fingerprint(examples) != self.public:
            raise DataError(
                "public examples have the same ids but other content here than at the pivot; use "
                "the same public data"
            )

    def match(self, index: int, own: Tensor) -> Matching:
        """Match the tokens of an encoding with the published tokens of example ``index``.

        Args:
            index: number of the example.
            own: ``backbone.token_origins(example)`` of the receiver's model.
        """
        return match_origins(own, self.origins[index], self.example_ids[index])

    def rows(self, index: int) -> slice:
        """Return the rows of every tensor in ``sites`` that belong to example ``index``."""
        return slice(self._ends[index], self._ends[index + 1])

    @cached_property
    def _ends(self) -> list[int]:
        return [0, *accumulate(len(table) for table in self.origins)]


def pack_published(published: PublishedPivot) -> bytes:
    """Convert to bytes, for a message or a file.

    Raises:
        UpdateError: :func:`unpack_published` would refuse the bytes.
    """
    _check(published)
    tensors = {
        f"{site}/{name}": value
        for site, values in sorted(published.sites.items())
        for name, value in sorted(values.items())
    }
    tensors[_ORIGINS] = torch.cat(list(published.origins)).to(torch.int32)
    scalars = {
        "tokens": [len(table) for table in published.origins],
        "example_ids": list(published.example_ids),
        "public": published.public,
        "about": dict(published.about),
    }
    return pack(tensors, scalars)


def unpack_published(
    payload: bytes, expected: PublishedSchema | None = None, limit: int = SIZE_LIMIT
) -> PublishedPivot:
    """Read and check what a pivot published.

    Args:
        payload: the bytes.
        expected: sites, quantities and widths that were agreed on; None accepts all.
        limit: most bytes.

    Raises:
        UpdateError: too large, damaged, other sites, quantities or widths than expected, not
            finite, or inconsistent.
    """
    if len(payload) > limit:
        raise UpdateError(
            f"the published numbers have {len(payload):,} bytes; at most {limit:,} are accepted"
        )
    try:
        tensors, scalars = unpack(payload)
        table = tensors.pop(_ORIGINS)
        counts = [int(count) for count in scalars["tokens"]]
        if min(counts, default=0) < 1 or sum(counts) != len(table):
            raise ValueError("the token counts of its examples do not fit its tensors")
        sites: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            site, _, name = key.partition("/")
            sites.setdefault(site, {})[name] = value
        published = PublishedPivot(
            sites,
            list(table.to(torch.int64).split(counts)),
            [str(name) for name in scalars["example_ids"]],
            str(scalars["public"]),
            dict(scalars["about"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UpdateError(
            f"the published numbers are damaged or of another kind: {error}"
        ) from error
    _check(published)
    if expected is not None:
        _check_schema(published.schema, expected)
    return published


def _check_schema(found: PublishedSchema, expected: PublishedSchema) -> None:
    """Raise UpdateError unless sites, quantities and widths are those expected."""
    for site in {**expected, **found}:
        if found.get(site) != expected.get(site):
            raise UpdateError(
                f"the published numbers have {found.get(site)} at {site!r}, expected "
                f"{expected.get(site)}"
            )


def _check(published: PublishedPivot) -> None:
    """Raise UpdateError unless names, shapes and values are as in :class:`PublishedPivot`."""
    ids = list(published.example_ids)
    if len(ids) != len(published.origins) or len(set(ids)) != len(ids) or not ids:
        raise UpdateError(
            f"{len(ids)} example ids for {len(published.origins)} examples; each example needs an "
            "id of its own"
        )
    for name, table in zip(ids, published.origins, strict=True):
        _check_origins(name, table)
    tokens = sum(len(table) for table in published.origins)
    if not published.sites:
        raise UpdateError("the published numbers have no site")
    for site, values in published.sites.items():
        for name, value in values.items():
            _check_values(site, name, value, tokens)


def _check_origins(name: str, table: Tensor) -> None:
    """Raise UpdateError unless a table describes tokens as :meth:`Backbone.token_origins` does."""
    shaped = (
        table.dim() == 2
        and table.shape[1] == 4
        and len(table) > 0
        and not table.is_floating_point()
    )
    if (
        not shaped
        or table.min() < 0
        or table.max() >= _LARGEST
        or table[:, 0].max() > max(TokenKind)
    ):
        raise UpdateError(f"example {name!r} has an invalid table of token origins")
    image = table[table[:, 0] == TokenKind.IMAGE]
    text = table[(table[:, 0] == TokenKind.TEXT) | (table[:, 0] == TokenKind.ANSWER)]
    if (image[:, 2] >= image[:, 3]).any() or (text[:, 2] > text[:, 3]).any():
        raise UpdateError(
            f"example {name!r} has tokens that end before they begin, or places outside of an image"
        )


def _check_values(site: str, name: str, value: Tensor, tokens: int) -> None:
    """Raise UpdateError unless a quantity has a valid name, shape, type and finite values."""
    if not _NAME.fullmatch(site) or not _NAME.fullmatch(name):
        raise UpdateError(f"{site!r}/{name!r} is not a valid name of a site and a quantity")
    if (
        value.dim() != 2
        or len(value) != tokens
        or value.shape[1] < 1
        or not value.is_floating_point()
    ):
        raise UpdateError(
            f"{site}/{name} is {value.dtype} {list(value.shape)}; expected floats [{tokens}, width]"
        )
    if not bool(torch.isfinite(value).all()):
        raise UpdateError(f"{site}/{name} holds NaN or Inf")
