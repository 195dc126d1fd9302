"""Test the comparison with Flower and PEFT by hand: its data, its settings, what it counts."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

import fedmosaic
from benchmarks.common.paths import RESULTS, read_result
from benchmarks.peers import prepare as preparing
from benchmarks.peers.compare_peers import difference, fedmosaic_results, peer_results, run_program
from benchmarks.peers.process_tree import measure
from benchmarks.peers.programs import APP, PROGRAMS, lines_of_code, missing, settings_for_peers
from benchmarks.peers.tables import DOCUMENT, page, reading, table
from tiny_config import SIZES

CLIENTS, ROUNDS = 2, 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> preparing.Prepared:
    """A federation of a tiny model with few items."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = preparing.SIZES | {key: SIZES[key] for key in SIZES if key in preparing.SIZES}
        patch.setattr(preparing, "SIZES", tiny)
        patch.setattr(preparing, "TRAIN_ITEMS", 10)
        patch.setattr(preparing, "TEST_ITEMS", 12)
        return preparing.prepare(tmp_path_factory.mktemp("peers"), "small", CLIENTS, ROUNDS)


@pytest.fixture(scope="module")
def ours(prepared: preparing.Prepared) -> Path:
    """The run folder of fedmosaic."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared.folder)
        fedmosaic.run(
            "scenario.yaml", algorithm="fedavg", seed=0, out="ours", workers=1, trackers=()
        )
    return prepared.folder / "ours"


def test_peft_by_hand_learns_what_fedmosaic_learns(
    prepared: preparing.Prepared, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(APP))
    import one_process

    out = prepared.folder / "by_hand"
    one_process.main(settings_for_peers(prepared, out))
    mine, theirs = fedmosaic_results(ours), peer_results(out)
    assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert mine["accuracy"] == pytest.approx(theirs["accuracy"])
    assert difference(mine["weights"], theirs["weights"]) < 1e-4
    # The same weights mean nothing if none was trained.
    trained = [value for key, value in theirs["weights"].items() if "lora_B" in key]
    assert all(float(value.abs().max()) > 1e-3 for value in trained)


@pytest.mark.skipif(bool(missing(PROGRAMS["flower"])), reason="Flower is not installed")
@pytest.mark.deployment
def test_flower_learns_what_fedmosaic_learns(prepared: preparing.Prepared, ours: Path) -> None:
    found = run_program(PROGRAMS["flower"], prepared, prepared.folder / "flower" / "out")
    assert difference(fedmosaic_results(ours)["weights"], found["weights"]) < 1e-4


def test_the_app_of_flower_has_the_settings_of_the_scenario(prepared: preparing.Prepared) -> None:
    app = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    settings = settings_for_peers(prepared, Path("out"))
    assert app.keys() == settings.keys()
    given = {"model", "data", "out", "seed", "rounds", "clients"}
    assert {k: v for k, v in app.items() if k not in given} == {
        k: v for k, v in settings.items() if k not in given
    }
    committed = preparing.scenario_of(app["clients"], app["rounds"])
    text = (preparing.HERE / "scenario.yaml").read_text()
    assert committed == preparing.yaml.safe_load(text)


def test_the_published_comparison_is_what_its_figures_give() -> None:
    result = read_result("peers")
    assert page(result) == (RESULTS / "peers.md").read_text()
    shown = DOCUMENT.read_text()
    assert f"<!-- peers -->\n{table(result)}\n<!-- end of peers -->" in shown
    assert f"<!-- peers reading -->\n{reading(result)}\n<!-- end of peers reading -->" in shown


def test_every_step_has_a_batch_of_training_items(prepared: preparing.Prepared) -> None:
    folder = prepared.folder / "data" / "client-1"
    train, batches = (json.loads((folder / f"{n}.json").read_text()) for n in ("train", "batches"))
    settings = settings_for_peers(prepared, Path("out"))
    assert len(batches) == settings["rounds"] * settings["steps"]
    assert {len(batch) for batch in batches} == {settings["batch-size"]}
    assert {number for batch in batches for number in batch} == set(range(len(train)))


def test_lines_are_counted_without_comments_blanks_and_docstrings(tmp_path: Path) -> None:
    code = tmp_path / "a.py"
    code.write_text(
        '"""A module,\n\nwith a blank line."""\n\n# comment\nx = 1  # one\n\n\ndef f():\n'
        '    """Do it."""\n    return """two\nlines"""\n'
    )
    assert lines_of_code(code) == 4
    text = tmp_path / "a.yaml"
    text.write_text("# comment\n\na: 1\n  # more\nb: 2\n")
    assert lines_of_code(text) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processes_that_a_command_leaves_behind_are_counted_and_ended(tmp_path: Path) -> None:
    burn = "import pathlib, time\nx = bytearray(60 << 20)\nwhile time.process_time() < .6: pass\n"
    burn += "pathlib.Path('done').touch()\ntime.sleep(60)"
    script = (
        "import pathlib, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)\n"
        "print('round 1/1', flush=True)\n"
        "while not pathlib.Path('done').exists(): time.sleep(.1)\n"
        "time.sleep(.5)\n"  # for a sample
    )
    found = measure([sys.executable, "-c", script], tmp_path, {}, r"^round \d")
    assert found.status == 0 and found.output == ["round 1/1"] and len(found.marks) == 1
    assert found.marks[0] < found.wall < 50
    assert found.processor > 0.5  # that of the grandchild, which was left behind
    assert found.rss > 60 << 20 and 0 < found.pss <= found.rss
