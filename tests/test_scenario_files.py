"""Load scenario files as people and editors write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import apply_override, load_scenario, parse
from fedmosaic.config.yaml_text import parse_yaml
from fedmosaic.errors import CheckpointError, ConfigError
from fedmosaic.federation.run_folder import RunFolder

CLIENTS = "clients:\n  - {name: upper, model: miniature/llama-8x96, tasks: [rows.json]}\n"


def scenario(folder: Path, text: str, clients: str = CLIENTS) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text + clients, encoding="utf-8")
    return path


# --- keys that stand twice ------------------------------------------------------------------------
TWICE = {
    "rounds: 2\nseed: 1\nrounds: 3\n": ("rounds", 3),
    "train: {lr: 1, lr: 2}\n": ("lr", 1),
    "train:\n  lr: 1\n  'lr': 2\n": ("lr", 3),
    'train: {"lr": 1, lr: 2}\n': ("lr", 1),
    "a: &a {lr: 1}\ntrain:\n  <<: *a\n  <<: *a\n": ("<<", 4),
    "clients:\n  - name: a\n    model: m\n    tasks: [x]\n    name: b\n": ("name", 5),
    "algorithms: {fedprox: {mu: 1,\n mu: 2}}\n": ("mu", 2),
    "data: {root: a}\ntrain: {steps: 1}\ndata: {root: b}\n": ("data", 3),
}


@pytest.mark.parametrize(("text", "place"), TWICE.items())
def test_a_key_that_stands_twice_is_named_with_its_line(
    text: str, place: tuple[str, int], tmp_path: Path
) -> None:
    key, line = place
    with pytest.raises(ConfigError, match=rf"mine\.yaml .*'{key}' stands twice.*\(line {line}\)$"):
        load_scenario(scenario(tmp_path, text, ""))
    (tmp_path / "below.yaml").write_text("extends: mine.yaml\n")
    with pytest.raises(ConfigError, match=rf"mine\.yaml .*'{key}' stands twice"):
        load_scenario(tmp_path / "below.yaml")


def test_a_key_that_stands_twice_in_an_override_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--set train=\{lr: 1, lr: 2\}: .*'lr' stands twice"):
        load_scenario("miniature/quickstart", ["train={lr: 1, lr: 2}"])


def test_json_files_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{\n\t"rounds": 2,\n\t"rounds": 3\n}')
    with pytest.raises(ConfigError, match=r"mine\.json .*'rounds' stands twice.*\(line 3\)$"):
        load_scenario(path)
    path.write_text('{"rounds": 2,\n"x" 3}')
    with pytest.raises(ConfigError, match=r"mine\.json is not valid JSON: .*\(line 2\)$"):
        load_scenario(path)
    clients = [{"name": "a", "model": "m", "tasks": ["$$.json"]}]
    path.write_bytes(json.dumps({"clients": clients}).encode("utf-16"))
    assert load_scenario(path).clients[0].tasks[0].name == "$.json"


def test_a_merged_mapping_may_be_changed(tmp_path: Path) -> None:
    text = "train: &t {lr: 1, steps: 7}\nalgorithms: {sft: {<<: *t, lr: 2}, fedit: *t}\n"
    options = load_scenario(scenario(tmp_path, text)).algorithms
    assert options == {"sft": {"lr": 2, "steps": 7}, "fedit": {"lr": 1, "steps": 7}}


# --- words and numbers ----------------------------------------------------------------------------
WORDS = {
    "no": "no",
    "yes": "yes",
    "on": "on",
    "007": "007",
    "2024-01-01": "2024-01-01",
    "12:30": "12:30",
    "true": True,
    "~": None,
    "7": 7,
    "1e-3": 1e-3,
    "1.0e-05": 1e-5,
    "0.5": 0.5,
    ".5": 0.5,
    "1_000": 1000,
    "0": 0,
    "-3": -3,
}


@pytest.mark.parametrize(("text", "value"), WORDS.items())
def test_a_word_is_a_word(text: str, value: Any) -> None:
    found = parse_yaml(text, "f")
    assert found == value and type(found) is type(value)


def test_yes_and_no_are_names_and_switches(tmp_path: Path) -> None:
    text = "evaluation: {others: no, before: on}\n"
    clients = "clients:\n  - {name: no, model: m, tasks: [x], group: 010}\n"
    found = load_scenario(scenario(tmp_path, text, clients))
    assert (found.evaluation.others, found.evaluation.before) == (False, True)
    assert (found.clients[0].name, found.clients[0].group) == ("no", "010")


def test_a_number_as_a_name_is_refused_with_the_way_out() -> None:
    content = {"clients": [{"name": 7, "model": "m", "tasks": ["x"]}]}
    with pytest.raises(ConfigError, match=r"^f: clients\.0\.name = 7: .*put it in quotes$"):
        parse(Scenario, content, "f")


# --- files ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_editors_may_save_as_they_do(encoding: str, line_end: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "title: Flüsse\nrounds: 2\n" + CLIENTS
    path.write_bytes(text.replace("\n", line_end).encode(encoding))
    found = load_scenario(path)
    assert (found.title, found.rounds) == ("Flüsse", 2)


WRONG = {
    b"": "mapping of settings.*nothing",
    b"# all commented out\n": "mapping of settings.*nothing",
    b"- name: a\n": "mapping of settings.*a list",
    b"just words\n": "mapping of settings.*a single value",
    b"title: x\n\trounds: 2\n": r"a tab .*\(line 2\)",
    b"train:\n\t- lr: 1\n": r"a tab .*\(line 2\)",
    b"title: \xff\n": r"not UTF-8.*\(line 1\)",
    b"title: x\ntitel: \xfc\n": r"not UTF-8.*\(line 2\)",
    "title: x".encode("utf-16-le"): r"number 0x0 \(line 1\)",
    b"rounds: 2\n1: x\n": r"key '1' is no text.*\(line 2\)",
    b"? [a]\n: 3\n": r"no text.*\(line 1\)",
    b"a: *nowhere\n": r"undefined alias 'nowhere' \(line 1\)",
    b"a: !!python/object/apply:os.system [ls]\n": r"tag .*\(line 1\)",
    b"title: a: b\n": r"\(line 1\)",
    b"rounds: 2\n---\nrounds: 3\n": r"another document \(line 2\)",
    CLIENTS.encode() + b"train:\n": r"train = None: expected a section",
    b"data: {root: ${HOME}/x}\n": r"in quotes \(line 1\)",
    b"clients: {a: 1}\n": "clients = .*expected a list",
    b"extends: [a, b]\n": "extends = .*name one scenario",
}


@pytest.mark.parametrize(("content", "message"), WRONG.items())
def test_a_wrong_file_is_named_with_key_or_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as raised:
        load_scenario(path)
    assert "mine.yaml" in str(raised.value) and "\n" not in str(raised.value)


def test_settings_of_a_run_folder_are_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: a\nname: b\n")
    with pytest.raises(CheckpointError, match=r"config\.yaml .*'name' stands twice.*\(line 2\)"):
        RunFolder.open(tmp_path)


# --- paths ----------------------------------------------------------------------------------------
def test_paths_are_written_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RIVERS", "/rivers")
    text = (
        "data: {root: ~/data, public: $RIVERS/public.json}\nunseen: [~/a.json]\n"
        "alignment: {pivot: '${RIVERS}/m', refine: {join: ~/joined}}\nrelevance: {model: ~/small}\n"
    )
    clients = (
        "clients:\n  - {name: a, model: $RIVERS/m, tasks: [~/b.json, {name: $RIVERS/c$$1.json}]}\n"
    )
    found = load_scenario(scenario(tmp_path, text, clients))
    home = str(tmp_path)
    assert str(found.data.root) == f"{home}/data" and found.data.public == "/rivers/public.json"
    assert found.unseen[0].name == f"{home}/a.json"
    assert found.alignment.pivot == "/rivers/m" and found.relevance.model == f"{home}/small"
    assert found.alignment.refine and found.alignment.refine.join == f"{home}/joined"
    assert found.clients[0].model == "/rivers/m"
    assert [task.name for task in found.clients[0].tasks] == [f"{home}/b.json", "/rivers/c$1.json"]


def test_overrides_and_names_of_files_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVERS", str(tmp_path))
    scenario(tmp_path, "rounds: 2\n")
    (tmp_path / "below.yaml").write_text("extends: $RIVERS/mine.yaml\n")
    found = load_scenario("${RIVERS}/below.yaml", ["data.root=$RIVERS/data", "title=costs $5"])
    assert (found.rounds, found.data.root, found.title) == (2, tmp_path / "data", "costs $5")
    joined: dict[str, Any] = {}
    apply_override(joined, "refine.join=$RIVERS/joined")  # of `fedmosaic align`
    assert joined["refine"]["join"] == f"{tmp_path}/joined"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("$RIVERS_NOT_SET/data", "RIVERS_NOT_SET is not set"),
        ("'${RIVERS_NOT_SET}/data'", "RIVERS_NOT_SET is not set"),
        ("$RIVERS_EMPTY/data", "RIVERS_EMPTY is empty"),
        ("'${RIVERS_NOT_SET:-here}'", "names no variable"),
        ("'${}'", "names no variable"),
        ("~nobody-of-that-name/data", "home folder ~nobody-of-that-name is not known"),
    ],
)
def test_a_path_that_cannot_be_expanded_is_refused(
    value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVERS_EMPTY", "")
    file = scenario(tmp_path, f"data: {{root: {value}}}\n")
    with pytest.raises(ConfigError, match=rf"mine\.yaml: data\.root = .*{message}"):
        load_scenario(file)
    with pytest.raises(ConfigError, match=rf"^--set data\.root=.*{message}"):
        load_scenario("miniature/quickstart", [f"data.root={value}"])


def test_a_dollar_that_names_no_variable_stays(tmp_path: Path) -> None:
    found = load_scenario(scenario(tmp_path, "data: {root: prices-in-$/5$}\n"))
    assert found.data.root == Path("prices-in-$/5$")


# --- names of clients -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["병원", "upper valley", "Zürich-2", "Ω", "東京.1", "हिन्दी", "a", "7"]
)
def test_a_name_has_letters_of_any_script(name: str) -> None:
    content = {"clients": [{"name": name, "model": "m", "tasks": ["x"]}]}
    assert parse(Scenario, content, "f").clients[0].name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a/b", "../a", "a\\b", "a:b", "a*", "a\nb", "a\tb", ".a", "-a", "a.", "a "),
        *("a\x00", "CON", "nul.txt", "com1", "x" * 200, "é" * 100, "a\u200bb", "🙂"),
    ],
)
def test_other_names_are_refused_in_a_sentence(name: str) -> None:
    content = {"clients": [{"name": name, "model": "m", "tasks": ["x"]}]}
    with pytest.raises(ConfigError, match=r"^f: clients\.0\.name = .*: \w+ ") as raised:
        parse(Scenario, content, "f")
    assert not any(part in str(raised.value) for part in ("[A-Za-z", "\\w", "^[", "pattern"))


@pytest.mark.parametrize("pair", [("A", "a"), ("é", "e\u0301"), ("STRASSE", "straße")])
def test_names_that_would_share_a_file_are_refused(pair: tuple[str, str]) -> None:
    content: Any = {"clients": [{"name": name, "model": "m", "tasks": ["x"]} for name in pair]}
    with pytest.raises(ConfigError, match=r"would name one file"):
        parse(Scenario, content, "f")


def test_a_run_folder_may_have_every_name_that_was_right(tmp_path: Path) -> None:
    clients = [{"name": name, "model": "m", "tasks": ["x"]} for name in ("A", "a", "con", "b.")]
    content = {"name": "s", "scenario": {"clients": clients}}
    assert len(parse(RunSettings, content, "f", recorded=True).scenario.clients) == 4
    content["scenario"] = {"clients": [{**clients[0], "name": "../a"}]}
    with pytest.raises(ConfigError, match="the character '/' cannot stand in a name"):
        parse(RunSettings, content, "f", recorded=True)


# --- whole files ----------------------------------------------------------------------------------
CASES = Path(__file__).parent / "cases"
EXPECTED = CASES / "expected.jsonl"
LINES = EXPECTED.read_text(encoding="utf-8").splitlines() if EXPECTED.is_file() else []
FILES = [case for case in map(json.loads, LINES) if case["kind"].startswith("config")]


@pytest.mark.parametrize("case", FILES, ids=lambda case: str(case["id"]))
@pytest.mark.filterwarnings("ignore:.*former names of settings")
def test_a_whole_file(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, str((CASES / value).resolve()))
    monkeypatch.chdir(CASES)
    if case["kind"] == "config-refuse":
        with pytest.raises(ConfigError) as raised:
            load_scenario(CASES / case["file"])
        assert all(part in str(raised.value) for part in case["error"])
        return
    found = load_scenario(CASES / case["file"]).model_dump(mode="json")
    for field, value in case["fields"].items():
        given: Any = found
        for part in field.split("."):
            given = given[int(part) if isinstance(given, list) else part]
        same = Path(given).resolve() == Path(value).resolve() if field == "data.root" else None
        assert same or given == value
