"""What a pivot publishes so that others can align themselves to it, each at home: numbers about public examples, nothing else.

For every token of every public example the pivot tells where the token comes from and, for each of its sites, the few numbers
that A and B leave of it, such as z = A x and u = Bᵀ ∂L/∂y, both r wide. A model elsewhere encodes the same public
examples, matches its tokens with the published ones, and fits its own A and B; neither needs the other's weights or tokenizer,
and no private example is involved. Bytes are those of :mod:`fedmosaic.packing`; what arrives is checked before it is used.
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

Schema = Mapping[str, Mapping[str, int]]
"""For each site the kinds of numbers and their width."""


@dataclass(frozen=True)
class Published:
    """Numbers about the tokens of public examples, example after example.

    Attributes:
        sites: for each site (``block.{k}.{module}``) and kind of numbers (``z``, ``u``, …) a tensor [tokens, width] over all
            examples' tokens, in any floating type.
        origins: for each example int64 [its tokens, 4], as :meth:`Backbone.token_origins` gives them.
        example_ids: for each example its id, no two alike.
        public: :func:`~fedmosaic.data.example.fingerprint` of the examples, by which a receiver knows that it has the same.
        about: anything else that JSON takes: the pivot's name, the rank, the settings.
    """

    sites: Mapping[str, Mapping[str, Tensor]]
    origins: Sequence[Tensor]
    example_ids: Sequence[str]
    public: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.origins)

    @property
    def schema(self) -> Schema:
        """The width of each kind of numbers at each site."""
        return {
            site: {kind: value.shape[1] for kind, value in kinds.items()}
            for site, kinds in self.sites.items()
        }

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Raises DataError unless these are the examples that the numbers are about, in their order."""
        if len(examples) != len(self):
            raise DataError(
                f"the pivot published {len(self)} public examples, but there are {len(examples)} here"
            )
        for example, published in zip(examples, self.example_ids, strict=True):
            if example.id != published:
                raise DataError(
                    f"the pivot's public example {published!r} is {example.id!r} here; use the same public data"
                )
        if fingerprint(examples) != self.public:
            raise DataError(
                "public examples of the same ids say or show something else here than at the pivot's"
            )

    def match(self, index: int, own: Tensor) -> Matching:
        """The tokens of one's own encoding (``backbone.token_origins(example)``) and the published ones of example ``index``."""
        return match_origins(own, self.origins[index], self.example_ids[index])

    def rows(self, index: int) -> slice:
        """Which rows of every tensor in ``sites`` are the tokens of example ``index``."""
        return slice(self._ends[index], self._ends[index + 1])

    @cached_property
    def _ends(self) -> list[int]:
        return [0, *accumulate(len(table) for table in self.origins)]


def pack_published(published: Published) -> bytes:
    """As bytes, for a message or a file. Raises UpdateError if :func:`unpack_published` would refuse them."""
    _check(published)
    tensors = {
        f"{site}/{kind}": value
        for site, kinds in sorted(published.sites.items())
        for kind, value in sorted(kinds.items())
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
    payload: bytes, expected: Schema | None = None, limit: int = SIZE_LIMIT
) -> Published:
    """Read and check what a pivot published.

    Args:
        expected: sites, kinds and widths that were agreed on; None takes what comes.
        limit: most bytes.

    Raises:
        UpdateError: too large, damaged, of other sites, kinds or widths, not finite, or at odds with itself.
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
            raise ValueError("its examples' tokens do not add up")
        sites: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            site, _, kind = name.partition("/")
            sites.setdefault(site, {})[kind] = value
        published = Published(
            sites,
            list(table.to(torch.int64).split(counts)),
            [str(name) for name in scalars["example_ids"]],
            str(scalars["public"]),
            dict(scalars["about"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UpdateError(
            f"the published numbers are damaged or are something else: {error}"
        ) from error
    _check(published)
    if expected is not None:
        _check_schema(published.schema, expected)
    return published


def _check_schema(found: Schema, expected: Schema) -> None:
    for site in {**expected, **found}:
        if found.get(site) != expected.get(site):
            raise UpdateError(
                f"the published numbers have {found.get(site)} at {site!r}, expected {expected.get(site)}"
            )


def _check(published: Published) -> None:
    """Raise UpdateError unless names, shapes and values are what :class:`Published` says."""
    ids = list(published.example_ids)
    if len(ids) != len(published.origins) or len(set(ids)) != len(ids) or not ids:
        raise UpdateError(
            f"{len(ids)} example ids for {len(published.origins)} examples; each needs one of its own"
        )
    for name, table in zip(ids, published.origins, strict=True):
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
            raise UpdateError(
                f"the origins of the tokens of example {name!r} are not what they should be"
            )
        image = table[table[:, 0] == TokenKind.IMAGE]
        text = table[(table[:, 0] == TokenKind.TEXT) | (table[:, 0] == TokenKind.ANSWER)]
        if (image[:, 2] >= image[:, 3]).any() or (text[:, 2] > text[:, 3]).any():
            raise UpdateError(
                f"example {name!r} has tokens that end before they begin, or places outside of an image"
            )
    tokens = sum(len(table) for table in published.origins)
    if not published.sites:
        raise UpdateError("the published numbers name no site")
    for site, kinds in published.sites.items():
        for kind, value in kinds.items():
            if not _NAME.fullmatch(site) or not _NAME.fullmatch(kind):
                raise UpdateError(f"{site!r}/{kind!r} is no name of a site and a kind of numbers")
            if (
                value.dim() != 2
                or len(value) != tokens
                or value.shape[1] < 1
                or not value.is_floating_point()
            ):
                raise UpdateError(
                    f"{site}/{kind} is {value.dtype} {list(value.shape)}; expected floats [{tokens}, width]"
                )
            if not bool(torch.isfinite(value).all()):
                raise UpdateError(f"{site}/{kind} holds NaN or Inf")
