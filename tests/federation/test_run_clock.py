"""A run shows chat templates the time at which it started, also in workers and after a resume."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import short_run
import yaml

import fedmosaic
from fedmosaic.data import Turn
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models import names
from fedmosaic.models.clock import current_time

# The date is so long that a prompt of another day has other tokens.
TEMPLATE = (
    "Today is {{ strftime_now('%d %B %Y') }}. {% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def dated(tmp_path: Path) -> Path:
    """A scenario of a model whose template writes the date."""
    shutil.copytree(names.BUNDLED / "llama-8x96", tmp_path / "dated")
    (tmp_path / "dated" / "chat_template.jinja").write_text(TEMPLATE)
    content = {
        "rounds": 2,
        "clients": [
            {"name": name, "model": str(tmp_path / "dated"), "tasks": [f"miniature/{task}"]}
            for name, task in (("a", "stages-0"), ("b", "stages-2"))
        ],
        "data": {"train": 4, "test": 4},
        "adapter": {"r": 2, "num_blocks": 1, "target_modules": ["q_proj"]},
        "train": {"steps": 1, "batch_size": 2},
        "evaluation": {"every": 1, "others": False},
    }
    (tmp_path / "dated.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "dated.yaml"


def at(run: Path, year: int) -> None:
    """Write into a run's settings that it started in another year."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["started"] = datetime(year, 5, 6).isoformat()
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def losses(run: Path) -> list[Any]:
    return [line["loss"] for line in short_run.numbers(run) if line["kind"] == "client"]


def test_the_start_is_recorded_and_shown_to_templates(dated: Path, tmp_path: Path) -> None:
    before = current_time()
    with pytest.raises(KeyboardInterrupt):
        stop = [short_run.StopAt(0, "a")]
        short_run.start(dated, tmp_path / "run", algorithm="sft", callbacks=stop)
    _, settings = RunFolder.open(tmp_path / "run")
    assert settings.started is not None and before <= settings.started <= current_time()

    at(tmp_path / "run", 2031)
    _, settings = RunFolder.open(tmp_path / "run")
    chat = Runtime(settings).backbone(settings.scenario.clients[0].model).chat
    assert chat.render([Turn("user", "?")]).startswith("Today is 06 May 2031. ")


def test_workers_and_a_resumed_run_show_the_same_date(dated: Path, tmp_path: Path) -> None:
    runs = {}
    for name, year, workers in (("one", 2031, 1), ("two", 2031, 2), ("three", 1987, 1)):
        runs[name] = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            stop = [short_run.StopAt(0, "a")]
            short_run.start(dated, runs[name], algorithm="sft", workers=workers, callbacks=stop)
        at(runs[name], year)
        fedmosaic.resume(runs[name], progress=False)
    assert losses(runs["one"]) == losses(runs["two"]) != losses(runs["three"])
