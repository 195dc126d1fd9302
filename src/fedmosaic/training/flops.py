"""Count the floating-point operations that a block of code executes, forward and backward.

Counted are matrix products, convolutions and attention, by the formulas of
``torch.utils.flop_counter`` (a multiply-add is two operations). Two operations are added that its
table leaves out: products in place, which our adapters use, and attention on a CPU. Element-wise
work (activations, norms, the optimiser) is not counted. Counting changes no result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def _matrix_vector(matrix: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(_: Tensor, matrix: Tensor, *__: Any, **___: Any) -> int:
    return 2 * matrix.numel()


def _dot(vector: Tensor, *_: Any, **__: Any) -> int:
    return 2 * prod(vector.shape)


def _product(x: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return 2 * out_val.numel() * x.shape[-1]


FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.addmm_: flop_registry[aten.addmm],
    aten._addmm_activation: flop_registry[aten.addmm],
    aten.baddbmm_: flop_registry[aten.baddbmm],
    aten.mv: _matrix_vector,
    aten.addmv: _added_matrix_vector,
    aten.addmv_: _added_matrix_vector,
    aten.dot: _dot,
    torch.ops.mkldnn._linear_pointwise: _product,
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        aten._scaled_dot_product_flash_attention
    ],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}


class FlopCounter:
    """Count operations while entered as a context.

    ``torch.utils.flop_counter.FlopCounterMode`` also counts by module, but takes three times the
    time of a small model's step.

    Args:
        free: Modules whose forward passes do not count, such as vision towers. Their features are
            cached, and whether an image is in the cache must not change the cost of a step.

    Attributes:
        total: Operations so far.
        parts: Operations inside :meth:`part`, by its name.
    """

    def __init__(self, free: Iterable[nn.Module] = ()) -> None:
        self.total = 0
        self.parts: dict[str, int] = {}
        self._free = list(free)
        self._paused = 0

    def __enter__(self) -> FlopCounter:
        self._open = ExitStack()
        token = _current.set(self)
        self._open.callback(lambda: _current.reset(token))
        for module in self._free:
            before = module.register_forward_pre_hook(lambda *_: self._pause(1))
            after = module.register_forward_hook(lambda *_: self._pause(-1), always_call=True)
            self._open.callback(before.remove)
            self._open.callback(after.remove)
        if "torch._dynamo" in sys.modules:  # what is compiled runs kernels that cannot be counted
            self._open.enter_context(torch.compiler.set_stance("force_eager"))
        self._mode = self._open.enter_context(_CountingMode(self._add))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Also add the operations of the block to ``parts[name]``."""
        before = self.total
        yield
        self.parts[name] = self.parts.get(name, 0) + self.total - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the operations of the block, e.g. work that is done once for the process."""
        self._pause(1)
        try:
            yield
        finally:
            self._pause(-1)

    def add(self, count: int, name: str) -> None:
        """Add operations that were counted elsewhere, also to ``parts[name]``."""
        self.total += count
        self.parts[name] = self.parts.get(name, 0) + count

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Let the operations of the block run at full speed, without looking at them."""
        self._mode.__exit__(None, None, None)
        try:
            yield
        finally:
            self._mode.__enter__()

    def _pause(self, change: int) -> None:
        self._paused += change

    def _add(self, count: int) -> None:
        if not self._paused:
            self.total += count


_current: ContextVar[FlopCounter | None] = ContextVar("counter", default=None)


class RepeatedWork:
    """Count work that comes up many times only the first time, as long as its shapes are equal.

    Counting doubles the time of a small model's step, and how many operations a step has depends on
    the shapes of its batch alone.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    @contextmanager
    def of(self, shapes: Hashable) -> Iterator[None]:
        """Add the operations of the block to the counter that is entered, if any.

        Args:
            shapes: What decides their number; None: they are always counted.
        """
        counter = _current.get()
        if counter is None:
            yield
        elif shapes in self._known:
            with counter.switched_off():
                yield
            counter._add(self._known[shapes])
        else:
            before = counter.total
            yield
            if shapes is not None:
                self._known[shapes] = counter.total - before


class _CountingMode(TorchDispatchMode):
    """Call ``add`` with the operations of everything that torch executes."""

    supports_higher_order_operators = True

    def __init__(self, add: Callable[[int], None]) -> None:
        super().__init__()
        self.add = add
        self.composite: dict[Any, bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(getattr(func, "_overloadpacket", func))
        if formula is None and self._is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if formula is not None:
            self.add(formula(*args, **kwargs, out_val=out))
        return out

    def _is_composite(self, func: Any) -> bool:
        """Return whether the operation only combines others, which are then counted instead.

        In inference mode torch does not decompose it. An operation with a kernel of its own (silu's
        backward) is not decomposed either, because its parts would round differently.
        """
        if func not in self.composite:
            composite = isinstance(func, torch._ops.OpOverload) and func._can_decompose()
            own = composite and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CPU")
            self.composite[func] = composite and not own
        return self.composite[func]
