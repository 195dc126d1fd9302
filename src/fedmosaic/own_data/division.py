"""Divide the items of a pool among clients, as ``--split`` says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmosaic.data.partition import (
    Parts,
    dirichlet_parts,
    iid_parts,
    matching_parts,
    stratified_parts,
    value_parts,
)
from fedmosaic.errors import ConfigError, DataError
from fedmosaic.own_data.client_list import names_of, names_of_values
from fedmosaic.own_data.pool import Item, ItemPool, column_values
from fedmosaic.own_data.rule import SplitRule

TEST_SHARE = 0.2
"""Share of a client's items that is held out for testing where there is no test file."""


@dataclass
class ItemDivision:
    """Hold which items each client has, as positions in the lists of a pool.

    Attributes:
        names: names of the clients.
        train: for each client the positions of its training items in ``pool.train``.
        test: those of its test items, in ``pool.test``; in ``pool.train`` where that is empty.
        values: for each client its values of the column of ``by``; empty lists otherwise.
        public: positions of the public items in ``pool.train``.
        labels: label of each item of ``pool.train``; None where items have no labels.
        notes: what there is to say, a sentence each.
    """

    names: list[str]
    train: Parts = field(default_factory=list)
    test: Parts = field(default_factory=list)
    values: list[list[str]] = field(default_factory=list)
    public: list[int] = field(default_factory=list)
    labels: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def divide(
    pool: ItemPool,
    rule: SplitRule,
    clients: int | Sequence[str] | None,
    *,
    seed: int = 0,
    test: float | None = None,
    public: float | None = None,
) -> ItemDivision:
    """Divide the items of a pool.

    Where there is a test file, its items are divided likewise: evenly, in the clients' proportions
    of labels, or by the same values. Otherwise each client's test items are a share of its own,
    with its shares of labels.

    Args:
        pool: the items.
        rule: how they are divided.
        clients: number of clients, or their names; None with ``by``: one for each value.
        seed: seed of every draw.
        test: share of each client's items that is held out; None: 0.2. Only where there is no test
            file.
        public: share of the training items that becomes public data before the rest is divided;
            None: none.

    Raises:
        ConfigError: settings that do not go with each other or with the number of items.
        DataError: items have no label or value.
    """
    _require_share("--test", test)
    _require_share("--public", public)
    if pool.test and test is not None:
        raise ConfigError(
            f"--test {test:g}: there are test items already, in {pool.test_names}; leave --test out"
        )
    labels = _labels(pool, rule)
    count = len(pool.train)
    mine, shared = list(range(count)), list[int]()
    if public is not None and count > 1:
        groups = column_values(pool, pool.train, rule.column) if rule.kind == "by" else labels
        mine, shared = stratified_parts(mine, groups, public, seed, "public items")
    found = _divided(pool, rule, clients, mine, labels, seed)
    found.public, found.labels = shared, labels
    if pool.test:
        _require_items(found, found.test, "test", pool, rule)
        return found
    _require_items(found, found.train, "", pool, rule, least=2)
    _hold_out(found, TEST_SHARE if test is None else test, seed)
    return found


def _hold_out(found: ItemDivision, share: float, seed: int) -> None:
    """Make a share of each client's items its test items."""
    pairs = [
        stratified_parts(part, found.labels, share, seed, f"test items of {name}")
        for name, part in zip(found.names, found.train, strict=True)
    ]
    found.train, found.test = [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _divided(
    pool: ItemPool,
    rule: SplitRule,
    clients: int | Sequence[str] | None,
    mine: list[int],
    labels: list[str] | None,
    seed: int,
) -> ItemDivision:
    """Divide the items at these positions, and the items of the test file."""
    if rule.kind == "by":
        return _by_value(pool, rule.column, clients, mine)
    found = ItemDivision(names_of(clients))
    number = len(found.names)
    _require_enough(number, len(mine), 1 if pool.test else 2)
    if rule.kind == "iid":
        parts = iid_parts(len(mine), number, seed)
        found.test = iid_parts(len(pool.test), number, seed)
    else:
        assert labels is not None
        own = [labels[index] for index in mine]
        parts = dirichlet_parts(own, number, rule.alpha, seed)
        if pool.test:
            found.test = matching_parts(parts, own, _labels_of(pool, pool.test, rule), seed)
    found.train = [[mine[index] for index in part] for part in parts]
    found.values = [[] for _ in parts]
    return found


def _by_value(
    pool: ItemPool, column: str, clients: int | Sequence[str] | None, mine: list[int]
) -> ItemDivision:
    every = column_values(pool, pool.train, column)
    values = [every[index] for index in mine]
    known = list(dict.fromkeys(every))
    if lost := [value for value in known if value not in values]:
        raise ConfigError(
            f"--public: all items with the {column} {lost[0]!r} would become public; choose a"
            " smaller share"
        )
    notes: list[str] = []
    by_value = clients is None or clients == len(known)
    names = names_of_values(known, column, notes) if by_value else names_of(clients)
    _require_values(names, known, column, isinstance(clients, int))
    name_of = dict(zip(known, names, strict=True)) if by_value else {name: name for name in known}
    parts, owned = value_parts(values, len(names))
    texts = [[str(value) for value in group] for group in owned]
    if by_value or set(names) == set(known):
        names = [name_of[group[0]] for group in texts]
    found = ItemDivision(names, values=texts, notes=notes)
    found.train = [[mine[index] for index in part] for part in parts]
    owner = {value: k for k, group in enumerate(texts) for value in group}
    found.test = [[] for _ in names]
    for index, value in enumerate(column_values(pool, pool.test, column) if pool.test else []):
        if value not in owner:
            raise pool.test[index].location.error(
                column, f"is {value!r}, a value that no training item has: {_some(known)}"
            )
        found.test[owner[value]].append(index)
    return found


def _require_values(
    names: Sequence[str], values: Sequence[str], column: str, is_number: bool
) -> None:
    """Require that there is a value for each client, and that names are all values or none."""
    if len(names) > len(values):
        raise ConfigError(
            f"--clients: {len(names)} clients, but the field {column!r} has {len(values)} values"
            f" ({_some(values)}); choose at most {len(values)}, or another --split"
        )
    shared = set(names) & set(values)
    if shared and set(names) != set(values) and not is_number:
        raise ConfigError(
            f"--clients: {min(shared)!r} is a value of the field {column!r}, but not all names are;"
            f" name all of its values ({_some(values)}), or give the number of clients"
        )


def _labels(pool: ItemPool, rule: SplitRule) -> list[str] | None:
    """Return the label of each training item; None where there are none that recur.

    Raises:
        DataError: labels are needed, and there are none that recur.
    """
    is_needed = rule.kind == "dirichlet"
    if is_needed and rule.column:
        labels = column_values(pool, pool.train, rule.column)
        what = f"the values of {rule.column!r}"
    else:
        if not any(item.example.options for item in pool.train):
            if is_needed:
                raise DataError(
                    f"{pool.source}: the answers are no choices among options, so items have no"
                    f" labels; name a field that has them: --split dirichlet:{rule.alpha:g}:COLUMN,"
                    f" with one of {_fields(pool)}"
                )
            return None
        labels = [item.example.answer for item in pool.train]
        what = "the right options"
    if 2 * len(set(labels)) <= len(labels):
        return labels
    if is_needed:
        raise DataError(
            f"{pool.source}: {what} of {len(labels)} items are {len(set(labels))} different ones,"
            " too many to be labels; name a field whose values recur: --split"
            f" dirichlet:{rule.alpha:g}:COLUMN, with one of {_fields(pool)}"
        )
    return None


def _labels_of(pool: ItemPool, items: Sequence[Item], rule: SplitRule) -> list[str]:
    if rule.column:
        return column_values(pool, items, rule.column)
    return [item.example.answer for item in items]


def _fields(pool: ItemPool) -> str:
    return _some(list(dict.fromkeys(str(name) for item in pool.train for name in item.record)))


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _require_share(option: str, share: float | None) -> None:
    if share is not None and not 0 < share < 1:
        raise ConfigError(f"{option} {share:g}: a share is a number between 0 and 1, such as 0.2")


def _require_enough(clients: int, count: int, least: int) -> None:
    if count < clients * least:
        each = "one to train on and one to test" if least == 2 else "one"
        most = f"at most {count // least}" if count >= least else "more items"
        raise ConfigError(
            f"--clients: {count} items cannot be divided among {clients} clients with {each} for"
            f" each; choose {most}"
        )


def _require_items(
    found: ItemDivision,
    parts: Parts,
    kind: str,
    pool: ItemPool,
    rule: SplitRule,
    least: int = 1,
) -> None:
    """Require that every client has items.

    Raises:
        ConfigError: a client has too few, with the way out.
    """
    for name, part in zip(found.names, parts, strict=True):
        if len(part) < least:
            have = f"{len(part)} {kind} item{'s' * (len(part) != 1)}".replace("  ", " ")
            where = f" of the {len(pool.test)} in {pool.test_names}" if kind == "test" else ""
            way_out = (
                "group values with --clients N, N below their number"
                if rule.kind == "by"
                else "choose fewer clients"
            )
            raise ConfigError(
                f"--split: client {name!r} would have {have}{where}, and needs {least} or more;"
                f" {way_out}"
            )
