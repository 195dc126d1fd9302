"""Keep image features on their device, those unused for longest out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from torch import Tensor
from torch.utils import _pytree as trees

LIMIT = 1 << 30  # bytes


class DeviceFeatures:
    """Keep features on the devices where models take them, up to a number of bytes.

    Args:
        limit: Most bytes of all features together. What is larger alone is not kept.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return the features of that key, from the device or by ``load``."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
            found = load()
            size = sum(leaf.nbytes for leaf in trees.tree_leaves(found) if isinstance(leaf, Tensor))
            if size <= self.limit:
                self._entries[key] = (found, size)
                self.size += size
            while self.size > self.limit:
                self.size -= self._entries.popitem(last=False)[1][1]
            return found
