"""Make a federation of one's own data from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmosaic.own_data.create import FederationRequest, NewFederation, create_federation


def init(
    folder: str | Path,
    *,
    data: str | Path,
    models: str | Sequence[str],
    clients: int | Sequence[str] | None = None,
    split: str = "iid",
    seed: int = 0,
    test: float | None = None,
    public: float | None = None,
    title: str = "",
    root: str | Path | None = None,
) -> NewFederation:
    """Make a federation of a file or a folder of items: a scenario and each client's items.

    The folder then holds ``scenario.yaml``, whose comments say what each setting does;
    ``data/<client>/train.jsonl`` and ``test.jsonl``; and ``division.csv``, which says where each
    item comes from. Pictures are not copied. The same call on the same data makes the same
    division.

    Args:
        folder: the folder to make; it must not exist, or be empty.
        data: a data file or folder of any kind that is read. Where it has a test file, test items
            are divided as the training items are.
        models: name of a model, or several, which the clients have in turn.
        clients: number of clients, or their names; None with ``by:COLUMN``: one for each value.
        split: ``iid``: at random. ``dirichlet:ALPHA``: with skewed labels, which are the right
            options, or with ``dirichlet:ALPHA:COLUMN`` the values of a field
            (:func:`fedmosaic.data.partition.dirichlet_parts`). ``by:COLUMN``: by the values of a
            field; with fewer clients than values, values are grouped.
        seed: seed of every draw.
        test: share of each client's items that is held out for testing, with its shares of labels;
            None: 0.2. Only where there is no test file.
        public: share of the training items that becomes public data; None: none. Every client sees
            public data.
        title: one line that names the scenario.
        root: folder that image paths may start from; None: the working folder.

    Returns:
        the folder, the path of the scenario, and how many items each client has.

    Raises:
        ConfigError: the folder is not empty, or settings do not go with each other or the items.
        DataError: items cannot be read or divided; the message names file, item and field.
        ModelError: a model is not there, or takes no pictures although items have them.
    """
    request = FederationRequest(
        folder=Path(folder),
        data=Path(data),
        models=[models] if isinstance(models, str) else list(models),
        clients=clients,
        split=split,
        seed=seed,
        test=test,
        public=public,
        title=title,
        root=None if root is None else Path(root),
    )
    return create_federation(request)
