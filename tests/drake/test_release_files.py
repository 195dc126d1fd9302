"""Test that the scenario files of the research release load as they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.config.load import is_scenario
from fedmosaic.errors import ConfigError
from tests.drake.release_files import MODELS, client, entries, write

# The files themselves, which are not part of this package.
OFFICIAL = Path(
    os.environ.get(
        "FEDMOSAIC_OFFICIAL_SCENARIOS", Path(__file__).parents[3] / "shared/official-scenarios"
    )
)
SHIPPED = {
    "DRAKE_hetero_llava_llama_3B_qwen_1_5B": "drake/hetero-llama-qwen",
    "Fed-Scope_hetero_llama_3B_8B": "fed-scope",
    "Fed-aya_hetero_llama_1B_3B": "fed-aya",
    "Fed-LLM_hetero_llama_1B_3B": "fed-llm-large",
}
LLAMA = "thkim0305/llama3.2_1B_vl"


def shipped(name: str) -> str:
    """Return the name of the shipped scenario of a file of the release."""
    if name in SHIPPED:
        return SHIPPED[name]
    benchmark, _, rest = name.partition("_")
    for old, new in (("llava_", ""), ("1_5B", "1.5B"), ("0_5B", "0.5B"), ("_", "-")):
        rest = rest.replace(old, new)
    return f"{benchmark}/{rest}".lower()


def saved(folder: Path, content: Any, name: str = "own.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_the_shipped_scenario(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    with pytest.warns(UserWarning, match=rf"{name}.json .* those of {shipped(name)}$"):
        assert fedmosaic.load_scenario(path) == fedmosaic.load_scenario(shipped(name))


@pytest.mark.parametrize("name", MODELS)
def test_the_published_file_is_the_shipped_scenario(name: str) -> None:
    path = OFFICIAL / f"{name}.json"
    if not path.is_file():
        pytest.skip("the published scenario files are not here")
    assert json.loads(path.read_text()) == entries(name)
    with pytest.warns(UserWarning, match=shipped(name)):
        assert fedmosaic.load_scenario(path) == fedmosaic.load_scenario(shipped(name))


@pytest.mark.parametrize("name", ["AB_align", "DRAKE_unseen_newtasktype", "HFLB_task_list"])
def test_other_published_files(name: str) -> None:
    path = OFFICIAL / f"{name}.json"
    if not path.is_file():
        pytest.skip("the published scenario files are not here")
    if name == "AB_align":
        with pytest.warns(UserWarning, match="hetero-llama-1b-3b"):
            assert len(fedmosaic.load_scenario(path).clients) == 2
        return
    match = {"D": "unseen tasks only .*RecipeQA", "H": "entry 0 is a task, not a client"}[name[0]]
    with pytest.raises(ConfigError, match=match):
        fedmosaic.load_scenario(path)


def test_other_clients_have_the_settings_of_the_benchmark(tmp_path: Path) -> None:
    content = [
        client(0, "one", "IRFL-1 VSR-0"),
        client(1, "two", "iconqa-2"),
        client(7, "one", "Own-3 HQ_Edit-0"),
    ]
    content[0]["note"] = "mine"
    content[1]["datasets"][0]["Desc"] = "short answers"
    path = saved(tmp_path, content)
    unused = "not used: 'note' of client 0, 'Desc' of iconqa-2 of client 1$"
    with pytest.warns(UserWarning, match=unused):
        scenario = fedmosaic.load_scenario(path, ["rounds=3", "data.root=/data"])
    base = fedmosaic.load_scenario("drake/hetero-llama-1b-3b")
    assert [c.name for c in scenario.clients] == ["client-0", "client-1", "client-7"]
    assert [c.model for c in scenario.clients] == ["one", "two", "one"]
    assert [c.group for c in scenario.clients] == ["", "qa", ""]
    tasks = [[(t.name, t.kind, t.metric) for t in c.tasks] for c in scenario.clients]
    assert tasks[0] == [("IRFL-1", "choice", None), ("VSR-0", "choice", None)]
    assert tasks[1] == [("iconqa-2", "open", "f1")]
    assert (scenario.title, scenario.rounds, scenario.data.root) == ("own", 3, Path("/data"))
    assert (scenario.adapter, scenario.train) == (base.adapter, base.train)
    assert len(scenario.unseen) == 6 and "HQ_Edit-0" not in [t.name for t in scenario.unseen]


def test_rounds_follow_the_number_of_tasks(tmp_path: Path) -> None:
    path = saved(tmp_path, [client(0, LLAMA, "VSR-0 IRFL-0"), client(1, LLAMA, "TQA-0")])
    with pytest.warns(UserWarning):
        assert fedmosaic.load_scenario(path).rounds == 10  # five a task


def test_the_files_of_unseen_tasks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = saved(tmp_path, [client(0, LLAMA, "DreamSim-0"), client(1, LLAMA, "imagecode-0")])
    with pytest.raises(ConfigError, match=r"fedmosaic adapt RUN --tasks DreamSim-0,imagecode-0"):
        fedmosaic.load_scenario(path)


def changed(**fields: Any) -> list[dict[str, Any]]:
    """Return a file of two clients with other fields in the second's second task."""
    content = [client(0, LLAMA, "VSR-0"), client(1, LLAMA, "TQA-0 IRFL-1")]
    content[1]["datasets"][1].update(fields)
    content[1]["datasets"][1] = {k: v for k, v in content[1]["datasets"][1].items() if v != ""}
    return content


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([], "empty list"),
        ([3], "entry 0 is not an object with client_id, model_id, datasets"),
        ([{"client_id": 0, "datasets": []}], "entry 0, field 'model_id': missing"),
        (
            [{"client_id": 0, "model_id": "m", "datasets": []}],
            "entry 0, field 'datasets': expected a list of at least one task",
        ),
        (changed(type="multi"), "entry 1, dataset 1, field 'type': unknown 'multi'. Did you mean"),
        (changed(metric="BLEU"), "entry 1, dataset 1, field 'metric': unknown 'BLEU'"),
        (changed(subset_id="1"), "entry 1, dataset 1, field 'subset_id': '1' is not a whole"),
        (changed(subset_id=""), "entry 1, dataset 1, field 'subset_id': missing"),
        ([client(0, LLAMA, "Own-0")], r"no benchmark .* has its data sets \(Own\)"),
        (
            [client(0, LLAMA, "VSR-0"), client(0, LLAMA, "TQA-0")],
            "two clients are named",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*is a scenario file of the research release")
def test_what_is_wrong_is_named(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        fedmosaic.load_scenario(saved(tmp_path, content))
    assert "own.json" in str(caught.value)


def test_a_scenario_may_be_written_as_json(tmp_path: Path) -> None:
    content = {"extends": "miniature/quickstart", "rounds": 2}
    scenario = fedmosaic.load_scenario(saved(tmp_path, content))
    assert scenario == fedmosaic.load_scenario("miniature/quickstart", ["rounds=2"])
    (tmp_path / "own.json").write_text('{"rounds": 2,\n}')
    with pytest.raises(ConfigError, match=r"own.json is not valid JSON: .*line 2"):
        fedmosaic.load_scenario(tmp_path / "own.json")


def test_scenarios_and_data_files_are_distinguished(tmp_path: Path) -> None:
    data = [{"id": 1, "conversations": [{"from": "human", "value": "clients, extends"}]}]
    assert is_scenario(str(write("DRAKE_homo_llava_llama_1B", tmp_path)))
    assert is_scenario(str(saved(tmp_path, {"title": "x", "clients": []})))
    assert is_scenario("drake/homo-llama-1b") and is_scenario("not-there.yaml")
    for content in (data, {"data": data}, [], {}):
        assert not is_scenario(str(saved(tmp_path, content)))
    assert not is_scenario(str(tmp_path / "not-there.json")) and not is_scenario("VSR-0")


def test_the_data_of_a_file_of_the_release_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("DRAKE_homo_llava_llama_1B", tmp_path)
    with pytest.warns(UserWarning, match="drake/homo-llama-1b"):
        assert main(["data", "check", str(path), "--root", str(tmp_path), "--quiet"]) == 1
    assert f"fedmosaic data download drake --to {tmp_path}" in capsys.readouterr().out


def test_a_yaml_file_may_extend_a_file_of_the_release(tmp_path: Path) -> None:
    write("DRAKE_homo_llava_qwen_3B", tmp_path)
    (tmp_path / "mine.yaml").write_text("extends: DRAKE_homo_llava_qwen_3B.json\nrounds: 4\n")
    with pytest.warns(UserWarning, match="drake/homo-qwen-3b"):
        scenario = fedmosaic.load_scenario(tmp_path / "mine.yaml")
    assert scenario == fedmosaic.load_scenario("drake/homo-qwen-3b", ["rounds=4"])


def test_the_command_takes_a_file_of_the_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("DRAKE_homo_llava_llama_1B", tmp_path)
    models = f"replace_models={{{LLAMA}: miniature/llama-8x96}}"
    with pytest.warns(UserWarning, match="those of drake/homo-llama-1b"):
        assert main(["run", str(path), "--set", models, "--set", f"data.root={tmp_path}/none"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/none" in line


def test_models_can_be_replaced(tmp_path: Path) -> None:
    table = "replace_models={thkim0305/llama3.2_1B_vl: /models/1b, thkim0305/llama3.2_3B_vl: x}"
    scenario = fedmosaic.load_scenario("drake/hetero-llama-1b-3b", [table])
    assert scenario.models_used == ["/models/1b", "x"] and not scenario.replace_models
    reread = type(scenario).model_validate(scenario.model_dump(mode="json"))
    assert reread == scenario
    named = ["relevance.model=thkim0305/llama3.2_1B_vl", table]
    observed = fedmosaic.load_scenario("drake/hetero-llama-1b-3b", named)
    assert observed.relevance.model == "/models/1b"


def test_a_replaced_model_must_be_one_of_a_client() -> None:
    with pytest.raises(ConfigError, match=r"replace_models: no client has .*llama3.2_1B'. Did you"):
        fedmosaic.load_scenario(
            "drake/hetero-llama-1b-3b", ["replace_models={thkim0305/llama3.2_1B: x}"]
        )
