"""Show runs and comparisons from before settings were renamed, and refuse to continue them.

``former_run`` is a run of what is now fedmosaic-interpolation, ``former_comparison`` one of
fedsa-lora, fedmosaic-additive and sft. Both were made by that version.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fedmosaic
from fedmosaic.algorithms import algorithm_names, make_algorithm
from fedmosaic.cli import main
from fedmosaic.errors import CheckpointError, ConfigError
from fedmosaic.federation.run_folder import RunFolder

RUN = Path(__file__).parent / "former_run"
COMPARISON = RUN.parents[1] / "experiments" / "former_comparison"


@pytest.fixture()
def interrupted(tmp_path: Path) -> Path:
    """Return a former run that has not finished."""
    folder = tmp_path / "interrupted"
    shutil.copytree(RUN, folder)
    (folder / "summary.json").unlink()
    return folder


def test_settings_are_read_in_todays_names() -> None:
    folder, settings = RunFolder.open(RUN)
    adapter = settings.scenario.adapter
    assert (adapter.r, adapter.num_blocks, adapter.target_modules) == (4, 2, ("q_proj",))
    assert [client.r for client in settings.scenario.clients] == [4, None]
    assert settings.algorithm == "fedmosaic-interpolation" in algorithm_names()
    algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
    assert algorithm.options.interpolation == 0.2
    assert folder.former == "'clients.0.rank' is now 'clients.0.r'"


def test_a_finished_run_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    summary = fedmosaic.show(RUN)
    assert summary["algorithm"] == "fedmosaic-interpolation"
    assert main(["show", str(RUN)]) == 0
    assert "fedmosaic-interpolation" in capsys.readouterr().out


def test_an_unfinished_run_is_shown_and_not_resumed(interrupted: Path) -> None:
    shown, finished = fedmosaic.show(interrupted), fedmosaic.show(RUN)
    assert shown["self"] == finished["self"] and shown["clients"] == finished["clients"]
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    message = r"'clients\.0\.rank' is now 'clients\.0\.r'.* run its scenario again in a new folder"
    with pytest.raises(CheckpointError, match=message):
        fedmosaic.resume(interrupted, progress=False)
    assert before == {path: path.read_bytes() for path in before}


def test_a_finished_run_is_returned_by_resume_and_does_not_adapt(tmp_path: Path) -> None:
    assert fedmosaic.resume(RUN, progress=False).summary == fedmosaic.show(RUN)
    with pytest.raises(CheckpointError, match="earlier version of fedmosaic"):
        fedmosaic.adapt(RUN, tasks=["miniature/caption-0"])


def test_a_comparison_is_shown_with_todays_names() -> None:
    figures = fedmosaic.show(COMPARISON)
    algorithms = {label: row["algorithm"] for label, row in figures["algorithms"].items()}
    assert algorithms == {
        "fedsa_lora": "fedsa-lora",
        "fedmosaic-beside": "fedmosaic-additive",
        "sft": "sft",
    }
    assert figures["variants"]["fedsa_lora"] == ["fedsa-lora"]


def test_a_comparison_is_not_continued(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    shutil.copytree(COMPARISON, folder)
    with pytest.raises(ConfigError, match=r"earlier version of fedmosaic.*is now"):
        fedmosaic.compare(tiny, algorithms=["sft"], seeds=[0], out=folder, progress=False)


def test_both_are_reported_whole(tmp_path: Path) -> None:
    page = fedmosaic.report([COMPARISON, RUN], out=tmp_path / "report.html").read_text()
    assert "left out" not in page
    for name in ("fedsa_lora", "fedmosaic-beside", "fedmosaic-interpolation"):
        assert name in page, name


@pytest.mark.parametrize(
    "now,former", [("fit: ridge", "fit: descent"), ("noise: gaussian", "noise: laplace")]
)
def test_a_run_with_a_value_that_is_gone_is_shown(tmp_path: Path, now: str, former: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(RUN, folder)
    config = folder / "config.yaml"
    text = config.read_text()
    assert text.count(f"    {now}\n") == 1
    config.write_text(text.replace(f"    {now}\n", f"    {former}\n"))
    assert fedmosaic.show(folder) == fedmosaic.show(RUN)
    assert "left out" not in fedmosaic.report([folder], out=tmp_path / "report.html").read_text()


def test_a_former_run_is_not_exported(tmp_path: Path) -> None:
    """Settings that are gone may have made its adapters."""
    with pytest.raises(CheckpointError, match=r"earlier version.*cannot continue, adapt or export"):
        fedmosaic.export(RUN, "a", tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


def test_nobody_is_sent_to_resume_a_former_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(RUN / "config.yaml", folder)
    with pytest.raises(CheckpointError, match="earlier version"):
        fedmosaic.show(folder)
    with pytest.raises(CheckpointError, match="earlier version"):
        fedmosaic.report([folder], out=tmp_path / "report.html")
