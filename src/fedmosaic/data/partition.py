"""Divide items among clients: evenly, by Dirichlet draws of labels, or by a value of the items.

All functions take and return positions of items. Every item goes to exactly one client, every draw
is seeded, and a part is in ascending sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmosaic.seeding import rng

Label = Hashable
Parts = list[list[int]]
"""For each client the positions of its items."""


def iid_parts(count: int, clients: int, seed: int) -> Parts:
    """Divide items at random into parts whose sizes differ by at most one.

    Args:
        count: number of items.
        clients: number of clients.
        seed: draws which items go to which client.
    """
    shuffled = rng(seed, "iid division").permutation(count).tolist()
    return [sorted(shuffled[client::clients]) for client in range(clients)]


def dirichlet_parts(labels: Sequence[Label], clients: int, alpha: float, seed: int) -> Parts:
    """Divide items into parts of equal size (to one item) whose labels are skewed.

    Each client k has its own distribution over labels,

        q_k ~ Dir(α p),   p: the share of each label among all items,

    and draws its items by it, without replacement. For α → ∞ all clients have the labels' shares,
    for α → 0 one label each. α counts for all labels together: with n labels of equal share each
    one has the concentration α / n. Tools that give each label the concentration a (Dir(a, …, a))
    have the same skew at α = n a.

    Source: Hsu et al. 2019, "Measuring the effects of non-identical data distribution for federated
    visual classification" (arXiv 1909.06335), section 3.

    Clients draw one after the other, in a random sequence. Where none of a client's labels has
    items left, it draws from what there is: so all items are used, and the smallest part has
    ⌊items / clients⌋, but the last clients follow q_k less. (If clients took turns by items, they
    would share each label that several of them want, and the skew would be half of the above.)

    Args:
        labels: label of each item.
        clients: number of clients.
        alpha: α, above 0.
        seed: draws the distributions and the items.
    """
    draws = rng(seed, "dirichlet division")
    names = list(dict.fromkeys(labels))
    pools = _pools(labels, names, draws)
    shares = np.array([len(pool) for pool in pools]) / len(labels)
    wanted = draws.dirichlet(alpha * shares, size=clients)
    parts: Parts = [[] for _ in range(clients)]
    left = np.array([len(pool) for pool in pools])
    for place, client in enumerate(draws.permutation(clients).tolist()):
        for _ in range(place, len(labels), clients):
            label = _draw(wanted[client], left, draws)
            parts[client].append(pools[label].pop())
            left[label] -= 1
    return [sorted(part) for part in parts]


def _pools(labels: Sequence[Label], names: Sequence[Label], draws: np.random.Generator) -> Parts:
    """Return the shuffled positions of each label's items."""
    places = {name: place for place, name in enumerate(names)}
    pools: Parts = [[] for _ in names]
    for index in draws.permutation(len(labels)).tolist():
        pools[places[labels[index]]].append(index)
    return pools


def _draw(wanted: NDArray[np.float64], left: NDArray[np.int64], draws: np.random.Generator) -> int:
    weights = np.where(left > 0, wanted, 0.0)
    total = weights.sum()
    weights = left / left.sum() if total <= 0 else weights / total
    return int(draws.choice(len(weights), p=weights))


def value_parts(values: Sequence[Label], clients: int) -> tuple[Parts, list[list[Label]]]:
    """Divide items by their values: all items of one value go to one client.

    With as many clients as values each client has one value, in the sequence of their first items.
    With fewer, the values with most items come first, and each goes to the client that has the
    fewest items so far.

    Args:
        values: value of each item.
        clients: number of clients, at most the number of values.

    Returns:
        the parts, and for each client its values.
    """
    counts = Counter(values)
    names = list(counts)
    owned: list[list[Label]] = [[] for _ in range(clients)]
    sizes = [0] * clients
    if clients < len(names):
        names.sort(key=lambda name: (-counts[name], str(name)))
    for name in names:
        client = min(range(clients), key=lambda k: (sizes[k], k))
        owned[client].append(name)
        sizes[client] += counts[name]
    owner = {name: client for client, mine in enumerate(owned) for name in mine}
    parts: Parts = [[] for _ in range(clients)]
    for index, value in enumerate(values):
        parts[owner[value]].append(index)
    return parts, owned


def matching_parts(
    parts: Sequence[Sequence[int]],
    labels: Sequence[Label],
    others: Sequence[Label],
    seed: int,
) -> Parts:
    """Divide other items, such as test items, in the proportions of a division.

    The other items of a label go to the clients in proportion to their items of that label, rounded
    by largest remainders. Labels that no client has are divided evenly.

    Args:
        parts: the division.
        labels: label of each of its items.
        others: label of each other item.
        seed: draws which items go to which client.
    """
    draws = rng(seed, "matching division")
    owned = [Counter(labels[index] for index in part) for part in parts]
    found: Parts = [[] for _ in parts]
    names = list(dict.fromkeys(others))
    for name, pool in zip(names, _pools(others, names, draws), strict=True):
        weights = np.array([counts[name] for counts in owned], dtype=float)
        if not weights.any():
            weights += 1
        start = 0
        for client, size in enumerate(_rounded(weights, len(pool), draws)):
            found[client] += pool[start : start + size]
            start += size
    return [sorted(part) for part in found]


def stratified_parts(
    part: Sequence[int], labels: Sequence[Label] | None, share: float, seed: int, name: str
) -> tuple[list[int], list[int]]:
    """Divide a part into what stays and a random share, which has the part's shares of labels.

    The share has at least one item and leaves at least one.

    Args:
        part: positions of the items; two or more.
        labels: label of each of all items; None: only the number is that of the share.
        share: share of the items, between 0 and 1.
        seed: draws the items.
        name: name of the part, which the draw depends on.

    Returns:
        what stays, and the share.
    """
    draws = rng(seed, "held-out share", name)
    mine = ["" if labels is None else labels[index] for index in part]
    names = list(dict.fromkeys(mine))
    size = min(max(1, round(share * len(part))), len(part) - 1)
    pools = _pools(mine, names, draws)
    sizes = _rounded(np.array([len(pool) for pool in pools], dtype=float), size, draws)
    out = {part[index] for pool, n in zip(pools, sizes, strict=True) for index in pool[:n]}
    return [index for index in part if index not in out], sorted(out)


def _rounded(weights: NDArray[np.float64], total: int, draws: np.random.Generator) -> list[int]:
    """Divide a number by weights, rounded by largest remainders; equal ones are drawn."""
    exact = weights / weights.sum() * total
    sizes = np.floor(exact + 1e-9).astype(int)
    ties = draws.random(len(weights))
    largest = sorted(range(len(weights)), key=lambda k: (-round(exact[k] - sizes[k], 9), ties[k]))
    for place in largest[: total - int(sizes.sum())]:
        sizes[place] += 1
    found: list[int] = sizes.tolist()
    return found
