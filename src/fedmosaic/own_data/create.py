"""Make a federation of one's own data in a folder: a scenario and the division of the items."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.files import atomic_folder
from fedmosaic.models.outline import ModelOutline, outline
from fedmosaic.own_data.division import ItemDivision, divide
from fedmosaic.own_data.lines import line_of, picture_source
from fedmosaic.own_data.pool import Item, ItemPool, read_pool
from fedmosaic.own_data.rule import SplitRule
from fedmosaic.own_data.scenario_text import ScenarioFacts, scenario_text

SCENARIO = "scenario.yaml"


@dataclass(frozen=True)
class FederationRequest:
    """Hold what a federation is made of.

    Attributes:
        folder: the folder to make.
        data: a data file or folder.
        models: names of models; the clients have them in turn.
        clients: number of clients, or their names; None: one for each value of ``by:COLUMN``.
        split: how items are divided, see :class:`~fedmosaic.own_data.rule.SplitRule`.
        seed: seed of every draw.
        test: share of each client's items that is held out; None: 0.2 where there is no test file.
        public: share of the training items that becomes public data; None: none.
        title: one line that names the scenario; empty: made of data and split.
        root: folder that image paths may start from; None: the working folder.
    """

    folder: Path
    data: Path
    models: Sequence[str]
    clients: int | Sequence[str] | None = None
    split: str = "iid"
    seed: int = 0
    test: float | None = None
    public: float | None = None
    title: str = ""
    root: Path | None = None

    @property
    def command(self) -> str:
        """Return the command that makes the same federation."""
        clients = self.clients
        given: list[tuple[str, object]] = [
            ("--data", self.data),
            ("--clients", clients if isinstance(clients, int | None) else ",".join(clients)),
            ("--split", self.split),
            ("--models", ",".join(self.models)),
            ("--seed", self.seed),
            ("--test", self.test),
            ("--public", self.public),
            ("--title", self.title or None),
            ("--root", self.root),
        ]
        words = [str(w) for name, value in given if value is not None for w in (name, value)]
        return " ".join(shlex.join(["fedmosaic", "init", str(self.folder), *words]).split("\n"))


@dataclass(frozen=True)
class NewClient:
    """Hold what one client of a new federation has.

    Attributes:
        name: its name.
        model: its model.
        train: number of its training items.
        test: number of its test items.
        values: its values of the column that items are divided by; empty for other splits.
        labels: number of its training items of each label; empty where items have no labels.
    """

    name: str
    model: str
    train: int
    test: int
    values: Sequence[str] = ()
    labels: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class NewFederation:
    """Hold what was made.

    Attributes:
        folder: its folder.
        scenario: path of the scenario.
        clients: the clients.
        public: number of items that are public.
        notes: what there is to say about the data, a sentence each.
    """

    folder: Path
    scenario: Path
    clients: Sequence[NewClient]
    public: int
    notes: Sequence[str]


def create_federation(request: FederationRequest) -> NewFederation:
    """Divide items among clients and write their files and a scenario; nothing is half written.

    Raises:
        ConfigError: the folder is not empty, or settings do not go with each other.
        DataError: items cannot be read or divided.
        ModelError: a model is not there, or takes no pictures although items have them.
    """
    _require_empty(request.folder)
    rule = SplitRule.parse(request.split)
    outlines = [outline(name) for name in request.models]
    pool = read_pool(request.data, request.root)
    found = divide(
        pool,
        rule,
        request.clients,
        seed=request.seed,
        test=request.test,
        public=request.public,
    )
    models = _models(outlines, found.names, pool)
    facts = _facts(request, found, models, pool)
    with _filled(request.folder) as work:
        _write_items(work, pool, found)
        (work / SCENARIO).write_text(scenario_text(facts), encoding="utf-8")
        load_scenario(work / SCENARIO)
    clients = [
        NewClient(name, model.name, len(train), len(test), tuple(values), _counted(found, train))
        for name, model, train, test, values in zip(
            found.names, models, found.train, found.test, found.values, strict=True
        )
    ]
    notes = [*pool.notes, *found.notes, *_pictures_on_both_sides(pool, found)]
    path = request.folder / SCENARIO
    return NewFederation(request.folder, path, clients, len(found.public), notes)


def _require_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        what = "is not empty" if folder.is_dir() else "is a file"
        raise ConfigError(f"{folder} {what}; name a folder that does not exist yet")


def _models(
    outlines: Sequence[ModelOutline], names: Sequence[str], pool: ItemPool
) -> list[ModelOutline]:
    """Return the model of each client.

    Raises:
        ConfigError: there are no models, or more of them than clients.
        ModelError: a model takes no pictures, and items have some.
    """
    if not outlines or len(outlines) > len(names):
        raise ConfigError(
            f"--models: {len(outlines)} models for {len(names)} clients; name one, or up to as many"
            " as clients"
        )
    pictured = [item for item in pool.items if item.example.images]
    blind = next((model for model in outlines if not model.takes_images), None)
    if blind and pictured:
        raise ModelError(
            f"model {blind.name!r} takes text only, but {len(pictured)} of {len(pool.items)} items"
            f" have pictures, the first is {pictured[0].location}; choose vision-language models"
        )
    return [outlines[index % len(outlines)] for index in range(len(names))]


def _facts(
    request: FederationRequest, found: ItemDivision, models: Sequence[ModelOutline], pool: ItemPool
) -> ScenarioFacts:
    tested = pool.test or pool.train
    choices = {bool(tested[i].example.options) for part in found.test for i in part}
    number = len(found.names)
    plural = "s" * (number != 1)
    answers = (pool.train[index].example.answer.split()[:1] for index in found.public)
    title = f"{request.data.stem}, {number} client{plural}, {request.split}"
    return ScenarioFacts(
        command=request.command,
        folder=str(request.folder),
        title=" ".join((request.title or title).split()),
        clients=found.names,
        models=models,
        items=round(sum(map(len, found.train)) / number),
        has_pictures=any(item.example.images for item in pool.items),
        is_mixed=len(choices) > 1,
        public=len(found.public),
        answer_words=len({word for first in answers for word in first}),
    )


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose content becomes that of ``folder``, the scenario last."""
    target = Path(os.path.abspath(folder))
    if not target.exists():
        with atomic_folder(target) as work:
            yield work
        return
    # An empty folder that a shell may stand in stays, and is filled.
    with atomic_folder(target / ".new") as work:
        yield work
    for path in sorted((target / ".new").iterdir(), key=lambda path: path.name == SCENARIO):
        path.replace(target / path.name)
    (target / ".new").rmdir()


def _write_items(work: Path, pool: ItemPool, found: ItemDivision) -> None:
    tested = pool.test or pool.train
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["client", "split", "line", "id", "label", "file", "item"])
    parts: list[tuple[str, str, list[Item]]] = []
    for name, train, test in zip(found.names, found.train, found.test, strict=True):
        parts.append((name, "train", [pool.train[index] for index in train]))
        parts.append((name, "test", [tested[index] for index in test]))
    if found.public:
        parts.append(("", "public", [pool.train[index] for index in found.public]))
    for name, split, items in parts:
        path = work / "data" / name / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line_of(item) + "\n" for item in items), encoding="utf-8")
        for line, item in enumerate(items, start=1):
            where, label = item.location, item.example.answer if item.example.options else ""
            writer.writerow([name, split, line, where.id, label, where.path, where.index])
    (work / "division.csv").write_text(table.getvalue(), encoding="utf-8", newline="")


def _pictures_on_both_sides(pool: ItemPool, found: ItemDivision) -> list[str]:
    """Say how many held-out items show a picture that is trained on, too."""
    if pool.test:
        return []

    def pictures(index: int) -> set[object]:
        return set(map(picture_source, pool.train[index].example.images))

    trained = {each for part in found.train for index in part for each in pictures(index)}
    tested = [index for part in found.test for index in part]
    count = sum(not trained.isdisjoint(pictures(index)) for index in tested)
    if not count:
        return []
    return [
        f"{count} of {len(tested)} held-out items show a picture that training items show too; to"
        " test on new pictures, give a test file"
    ]


def _counted(found: ItemDivision, part: Sequence[int]) -> Counter[str]:
    return Counter(found.labels[index] for index in part) if found.labels else Counter()
