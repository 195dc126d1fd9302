"""Test that two clients of different families train together, in each pair that shares a modality.

The pairs are all pairs of families whose models take the same items: with images where both take
images, else texts. The default suite takes a sample of them; ``make test-families`` takes all.

Each pair runs FedMosaic for one exchange: both train and send, and receive what the other sent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fedmosaic
from fedmosaic.config import Scenario
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.wire import read_tensors
from tests.families import LANGUAGE, VISION
from tests.families.examples import picture
from tests.families.sample import sample

WITHOUT_IMAGES = {"idefics2"}  # its processor does not say where it writes the tokens of an image
WITHOUT_TEXTS = {"paligemma"}  # takes questions about images only
REFUSED = {"mllama"}  # takes no image features that were computed beforehand
# Their only adapted module, in_proj, is in no attention layer: they share with one another alone.
STATE_SPACE = {"mamba", "mamba2", "falcon_mamba"}
SEEING = [name for name in VISION if name not in REFUSED | WITHOUT_IMAGES]
READING = [name for name in (*VISION, *LANGUAGE) if name not in REFUSED | WITHOUT_TEXTS]
ANSWERS = ("red", "blue", "green")


def pairs() -> Iterator[str]:
    """Yield all pairs, on images before texts, as ``<family>+<family>``."""
    on_images = dict.fromkeys(combinations(SEEING, 2))
    on_texts = [
        pair
        for pair in combinations(READING, 2)
        if pair not in on_images and len(STATE_SPACE.intersection(pair)) != 1
    ]
    yield from map("+".join, [*on_images, *on_texts])


CASES = sample(
    list(pairs()),
    *("llava_llama+qwen2_vl", "smolvlm+gemma3", "internvl+paligemma"),
    *("qwen3_vl+gpt2", "llama+gpt_oss", "gemma3n_text+jamba"),
)


class FirstRound(Callback):
    """Read what both clients sent in the first round, before its checkpoint is replaced.

    Attributes:
        local: the local adapters after training, by client and name.
        entry: the round's line of the metrics file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.local: dict[str, dict[str, Tensor]] = {}
        self.entry: dict[str, Any] = {}

    def round_finished(self, round_number: int, entry: Any, records: Any) -> None:
        if round_number == 0:
            self.entry = dict(entry)
            self.local = {name: adapter(self.folder, 1, name, "local") for name in ("a", "b")}


def adapter(folder: Path, rounds: int, client: str, name: str) -> dict[str, Tensor]:
    """Return the shared tensors of a client's adapter after a number of rounds."""
    path = folder / "checkpoints" / f"round-{rounds:04d}" / "clients" / f"{client}.safetensors"
    prefix = f"adapter/{name}/"
    return {
        key.removeprefix(prefix): value
        for key, value in read_tensors(path)[0].items()
        if key.startswith(f"{prefix}block.")
    }


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[str, str]]:
    """Write the tasks of both clients; return their files, with images (True) and without."""
    root = tmp_path_factory.mktemp("tasks")
    found: dict[bool, list[str]] = {True: [], False: []}
    for images, names in found.items():
        for client in range(2):
            items = [item(root, 10 * client + number, images) for number in range(5)]
            path = root / f"{client}-{images}.json"
            path.write_text(json.dumps(items))
            names.append(str(path))
    return {images: (names[0], names[1]) for images, names in found.items()}


def item(root: Path, number: int, images: bool) -> dict[str, Any]:
    question = f"What colour has number {number}?"
    turns = [{"value": question, "from": "human"}, {"value": ANSWERS[number % 3], "from": "gpt"}]
    if not images:
        return {"id": str(number), "conversations": turns}
    path = root / f"{number}.png"
    picture(number, 40 + number, 60).load().save(path)
    turns[0]["value"] = f"<image>\n{question}"
    return {"id": str(number), "conversations": turns, "image": str(path)}


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool(Scenario.model_fields["models"].get_default(call_default_factory=True))


@pytest.mark.parametrize("pair", CASES)
def test_two_families_train_together(
    pair: str,
    folder_of: Callable[[str], Path],
    tasks: dict[bool, tuple[str, str]],
    pool: ModelPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    families = pair.split("+")
    files = tasks[all(name in SEEING for name in families)]
    scenario = Scenario.model_validate(
        {
            "rounds": 2,  # what is sent in one round is received in the next
            "clients": [
                {"name": name, "model": str(folder_of(family)), "tasks": [file]}
                for name, family, file in zip("ab", families, files, strict=True)
            ],
            "data": {"public": "none"},
            "adapter": {"r": 2, "alpha": 4, "num_blocks": 1},
            "alignment": {"method": "none"},
            "train": {"steps": 1, "batch_size": 2, "lr": 1e-2, "lr_shared": 1e-2},
            "evaluation": {"others": False},
            "server": {"background_checkpoints": False},  # the callback reads them
        }
    )
    # Models are loaded at the first pair that has them.
    monkeypatch.setattr("fedmosaic.federation.runtime.ModelPool", lambda *_: pool)
    first = FirstRound(tmp_path / "run")
    options: dict[str, Any] = {"progress": False, "trackers": (), "workers": 1}
    run = fedmosaic.run(scenario, out=first.folder, callbacks=[first], **options)

    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "client"]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    scores = [line for line in lines if line["kind"] == "score"]
    assert {line["client"] for line in scores} == {"a", "b"}
    assert first.entry["refused"] == {} and first.entry["relevance"]["weights"] == [[0, 1], [1, 0]]
    similarity = first.entry["relevance"]["similarity"][0][1]
    assert 0 < abs(similarity) < 1
    for own, other in ("ab", "ba"):
        sent, received = first.local[other], adapter(run.folder, 2, own, "global")
        assert received.keys() == sent.keys() == first.local[own].keys() and sent
        assert all(torch.equal(received[key], sent[key]) for key in sent)
        later = adapter(run.folder, 2, own, "local")
        assert all(not torch.equal(later[key], first.local[own][key]) for key in later)
        assert any(not torch.equal(sent[key], first.local[own][key]) for key in sent)
