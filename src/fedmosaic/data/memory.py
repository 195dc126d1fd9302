"""Hold the samples of a client's stream, and draw which of them to train on next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmosaic.errors import CheckpointError, ConfigError

State = dict[str, "NDArray[np.int64] | NDArray[np.float64] | int"]


class OnlineMemory:
    """Hold samples that have arrived, each with a count of how often it was drawn lately.

    This is the memory of the paper's online setting. A sample is a number that names a training
    example; sample i has the count c_i.

    **Draw.** One draw gives one batch. It is drawn without replacement, sample i first with
    probability p_i ∝ exp(−c_i / T). Then all counts are multiplied by ``decay``, and the count of
    each drawn sample grows by 1. A sample enters with c = 0. With T = 0.125 a new sample is
    therefore e⁸ times as likely as one drawn in the step before; after some 70 draws in which the
    latter was not drawn (0.99⁷⁰ ≈ ½) the factor is e⁴. If the batch is larger than the memory, each
    sample is taken as often as all fit in, and the rest is drawn.

    **Eviction.** The memory never holds more than ``size`` samples. Each sample gets a tag at
    entry, drawn uniformly from [0, 1). Samples that arrive together all enter; for each one too
    many, the sample with the lowest tag among those already there is removed. A new sample can thus
    be drawn at least in the step of its arrival, and the older samples are close to a uniform
    sample of the past (reservoir sampling by random tags, Efraimidis & Spirakis 2006): in a dynamic
    stream every earlier task has its share, without task labels. If more samples arrive together
    than fit, the last ``size`` of them enter.

    Simpler rules fail. The most-drawn sample is usually the newest, so evicting it would freeze the
    memory on the first samples. Evicting the oldest would lose every earlier task. A classical
    reservoir would reject most arrivals before they are trained on.

    The memory holds no random generator: each call is given one that is named by client, round and
    step (:mod:`fedmosaic.seeding`).

    Attributes:
        items: the samples, int64 [n], in order of arrival.
        counts: their counts c, float64 [n].
        tags: their tags, float64 [n].

    Args:
        size: the most samples to hold; default None, all.
        temperature: T > 0; default 0.125.
        decay: factor on all counts at each draw, in (0, 1]; default 0.99.

    Raises:
        ConfigError: an argument is out of range.
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
        """Add samples in their order, and evict as many others as exceed ``size``.

        Args:
            items: numbers of the new samples, [k].
            rng: draws their tags.
        """
        arriving = np.asarray(items, dtype=np.int64)
        if self.size is not None:
            arriving = arriving[-self.size :]
            excess = len(self) + len(arriving) - self.size
            if excess > 0:
                remaining = np.sort(np.argpartition(self.tags, excess - 1)[excess:])
                self.items, self.counts, self.tags = (
                    self.items[remaining],
                    self.counts[remaining],
                    self.tags[remaining],
                )
        self.items = np.concatenate([self.items, arriving])
        self.counts = np.concatenate([self.counts, np.zeros(len(arriving))])
        self.tags = np.concatenate([self.tags, rng.random(len(arriving))])

    def probabilities(self) -> NDArray[np.float64]:
        """Return p_i = softmax_i(−c_i / T), the chance to be first in a batch, float64 [n].

        The result is finite for any counts.
        """
        weights = np.exp((self.counts.min(initial=np.inf) - self.counts) / self.temperature)
        return np.asarray(weights / weights.sum())

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a batch of ``count`` samples, int64 [count], and update the counts.

        Drawing one after another without replacement is the same as taking the largest values of
        −c_i/T + Gumbel noise (Kool et al. 2019). This needs no exponential of the counts, so it
        cannot overflow.

        Args:
            count: number of samples.
            rng: draws the noise.

        Raises:
            ConfigError: the memory is empty.
        """
        if not len(self):
            raise ConfigError("the empty memory has no batch to draw; add samples first")
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
        """Return copies of ``items``, ``counts`` and ``tags``, which are all that changes."""
        return {"items": self.items.copy(), "counts": self.counts.copy(), "tags": self.tags.copy()}

    def load_state_dict(self, state: State) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: arrays are missing, differ in length, or exceed ``size``.
        """
        try:
            items = np.array(state["items"], dtype=np.int64)
            counts, tags = (np.array(state[key], dtype=np.float64) for key in ("counts", "tags"))
        except KeyError as error:
            raise CheckpointError(f"the saved memory lacks {error}; it is damaged") from error
        consistent = items.ndim == 1 and items.shape == counts.shape == tags.shape
        if not consistent or not np.isfinite([counts, tags]).all() or (counts < 0).any():
            raise CheckpointError("the saved memory is damaged: its arrays do not fit each other")
        if self.size is not None and len(items) > self.size:
            raise CheckpointError(
                f"the saved memory holds {len(items)} samples, but memory_size is {self.size};"
                " resume with the memory_size that the run began with"
            )
        self.items, self.counts, self.tags = items, counts, tags
