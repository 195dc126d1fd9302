"""The online memory: what a client keeps of its stream, and which samples it trains on next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmosaic.errors import CheckpointError, ConfigError

State = dict[str, "NDArray[np.int64] | NDArray[np.float64] | int"]


class OnlineMemory:
    """Samples that arrived, each with a count c of how much it has been drawn lately (paper, online setting).

    **Draw.** One draw is one batch. The batch is drawn without replacement with p_i ∝ exp(−c_i / T); then every count
    is multiplied by ``decay`` and those of the drawn samples grow by 1. A sample enters with c = 0, so with T = 0.125 a
    new one is e⁸ times likelier than one drawn in the step before; after some 70 draws without it (0.99⁷⁰ ≈ ½) the
    factor is down to e⁴. A batch larger than the memory takes every sample as often as it fits and draws the rest.

    **Eviction.** ``size`` is a real limit. Samples that arrive together all enter, and for each one too many the sample
    with the lowest tag among those already there leaves; tags are drawn uniformly in [0, 1) at entry. So a new sample
    can be drawn at least in the step of its arrival, and what stays of the past is close to a uniform sample of it
    (reservoir sampling by random tags, Efraimidis & Spirakis 2006): every earlier task of a dynamic stream in its
    share, without task labels. Of more samples arriving together than fit, the last ``size`` enter. The rules that
    suggest themselves first fail: the most-drawn sample is as a rule the newest, so evicting it freezes the memory on
    the first samples; evicting the oldest forgets every earlier task; a classical reservoir turns most arrivals away
    untrained.

    No generator is kept: each call is given one, named by client, round and step (:mod:`fedmosaic.seeding`).

    Args:
        size: the most samples kept; None keeps all.
        temperature: T > 0.
        decay: factor on all counts at each draw, in (0, 1].

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(
        self, size: int | None = None, *, temperature: float = 0.125, decay: float = 0.99
    ) -> None:
        if size is not None and size < 1:
            raise ConfigError(
                f"memory_size is {size}; it must be 1 or more, or null to keep all samples"
            )
        if not temperature > 0:
            raise ConfigError(
                f"the memory's temperature is {temperature}; it must be greater than 0"
            )
        if not 0 < decay <= 1:
            raise ConfigError(f"the memory's decay is {decay}; it must be in (0, 1]")
        self.size = size
        self.temperature = temperature
        self.decay = decay
        self.items: NDArray[np.int64] = np.empty(0, np.int64)
        self.counts: NDArray[np.float64] = np.empty(0, np.float64)
        self.tags: NDArray[np.float64] = np.empty(0, np.float64)

    def __len__(self) -> int:
        return len(self.items)

    def add(self, items: Sequence[int] | NDArray[np.int64], rng: np.random.Generator) -> None:
        """Lets samples in, in their order, evicting what is too many; ``rng`` draws their tags."""
        arriving = np.asarray(items, dtype=np.int64)
        if self.size is not None:
            arriving = arriving[-self.size :]
            excess = len(self) + len(arriving) - self.size
            if excess > 0:
                staying = np.sort(np.argpartition(self.tags, excess - 1)[excess:])
                self.items, self.counts, self.tags = (
                    self.items[staying],
                    self.counts[staying],
                    self.tags[staying],
                )
        self.items = np.concatenate([self.items, arriving])
        self.counts = np.concatenate([self.counts, np.zeros(len(arriving))])
        self.tags = np.concatenate([self.tags, rng.random(len(arriving))])

    def probabilities(self) -> NDArray[np.float64]:
        """p_i = softmax_i(−c_i / T), each sample's chance to be the first of a batch, [len]; stable for any counts."""
        weights = np.exp((self.counts.min(initial=np.inf) - self.counts) / self.temperature)
        return np.asarray(weights / weights.sum())

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A batch of ``count`` samples, [count]; counts change as the class tells.

        Drawing one after another without replacement is the same as taking the largest of −c_i/T + Gumbel noise
        (Kool et al. 2019), which needs no exponential of the counts and so cannot overflow.

        Raises:
            ConfigError: the memory is empty.
        """
        if not len(self):
            raise ConfigError("a batch was asked of an empty memory; let samples arrive first")
        whole, rest = divmod(count, len(self))
        chosen = np.tile(np.arange(len(self)), whole)
        if rest:
            keys = -self.counts / self.temperature - np.log(rng.standard_exponential(len(self)))
            best = np.argpartition(keys, len(keys) - rest)[len(keys) - rest :]
            chosen = np.concatenate([chosen, best[np.argsort(-keys[best])]])
        self.counts *= self.decay
        np.add.at(self.counts, chosen, 1.0)
        return self.items[chosen]

    def state_dict(self) -> State:
        """All that changes, [len] each, in order of arrival: ``items`` int64, ``counts`` and ``tags`` float64."""
        return {"items": self.items.copy(), "counts": self.counts.copy(), "tags": self.tags.copy()}

    def load_state_dict(self, state: State) -> None:
        """Takes a saved state over.

        Raises:
            CheckpointError: arrays are missing, do not fit each other, or exceed ``size``.
        """
        try:
            items = np.array(state["items"], dtype=np.int64)
            counts, tags = (np.array(state[key], dtype=np.float64) for key in ("counts", "tags"))
        except KeyError as error:
            raise CheckpointError(f"the saved memory lacks {error}") from error
        sound = items.ndim == 1 and items.shape == counts.shape == tags.shape
        if not sound or not np.isfinite([counts, tags]).all() or (counts < 0).any():
            raise CheckpointError("the saved memory is damaged: its arrays do not fit each other")
        if self.size is not None and len(items) > self.size:
            raise CheckpointError(
                f"the saved memory holds {len(items)} samples, but memory_size is {self.size}"
            )
        self.items, self.counts, self.tags = items, counts, tags
