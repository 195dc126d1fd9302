"""Name the tensors of an adapter independently of PEFT, Transformers and the model family.

| key                    | tensor                                                     | is sent |
|------------------------|------------------------------------------------------------|---------|
| ``block.{k}.{m}.P``    | Co-LoRA's P ``[r, r]`` of module m in block k              | yes     |
| ``block.{k}.{m}.Q``    | Co-LoRA's Q ``[r]``; none with ``q=False``                 | yes     |
| ``layer.{i}.{m}.A``    | ordinary LoRA's A ``[r, d_in]`` of module m in layer i     | yes     |
| ``layer.{i}.{m}.B``    | ordinary LoRA's B ``[d_out, r]``                           | yes     |
| ``gate.{i}.{m}``       | β of the gate: ``[1]``, or ``[1 + d_in]`` (input gate);    | never   |
|                        | G of a mixer of PEFT's LoRA: ``[2, d_in]``                 |         |

Blocks and layers are counted from 0; a module is the role of a linear
layer, e.g. ``q_proj`` (:mod:`fedmosaic.models.roles`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar, get_args

Scope = Literal["block", "layer", "gate"]
T = TypeVar("T")


class TensorKey(NamedTuple):
    """Identify one tensor of an adapter.

    Attributes:
        scope: ``block`` for Co-LoRA, ``layer`` for ordinary LoRA, ``gate`` for a gate.
        number: 0-based block of Co-LoRA, else 0-based decoder layer.
        module: role of the linear layer, e.g. ``q_proj``.
        parameter: ``P``, ``Q``, ``A`` or ``B``; empty for a gate.
    """

    scope: Scope
    number: int
    module: str
    parameter: str = ""

    @classmethod
    def parse(cls, text: str) -> TensorKey:
        """Return the key that ``text`` spells.

        Raises:
            ValueError: the text is no tensor key.
        """
        scope, *parts = text.split(".")
        expected = 2 if scope == "gate" else 3
        if scope not in get_args(Scope) or len(parts) != expected or not parts[0].isdigit():
            raise ValueError(f"{text!r} is no tensor key, such as 'layer.0.q_proj.A'")
        return cls(scope, int(parts[0]), *parts[1:])  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the key as it travels: ``scope.number.module[.parameter]``."""
        return ".".join(str(part) for part in self if part != "")

    @property
    def site(self) -> str:
        """Return the key without its parameter: ``scope.number.module``."""
        return f"{self.scope}.{self.number}.{self.module}"


def in_scope(tensors: Mapping[str, T], *scopes: Scope) -> dict[str, T]:
    """Return the entries whose keys have one of the scopes; other names are left out."""
    return {name: value for name, value in tensors.items() if name.split(".", 1)[0] in scopes}
