"""Load scenario files; every mistake is named with the way out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmosaic import config
from fedmosaic.algorithms import algorithm_class, algorithm_names, make_algorithm
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.config import Scenario, Settings, renamed
from fedmosaic.config.load import load_scenario, merge, parse, scenario_names
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.adaptation import Adaptation

SECTIONS = [
    section
    for section in vars(config).values()
    if isinstance(section, type) and issubclass(section, Settings) and section is not Settings
]
CLIENT = {"name": "a", "model": "m", "tasks": ["x"]}


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenarios_load(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.clients and scenario.title


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"clients": [CLIENT], "trian": {}}, r"unknown key 'trian'. Did you mean 'train'"),
        ({"clients": [CLIENT], "train": {"lrr": 1}}, r"unknown key 'train.lrr'. Did you mean 'lr'"),
        (
            {"clients": [{**CLIENT, "modle": "m"}]},
            r"unknown key 'clients.0.modle'. Did you mean 'model'",
        ),
        ({"clients": [CLIENT, CLIENT]}, r"clients: two clients are named 'a'"),
        ({"clients": []}, r"clients = \[\]"),
        ({"clients": [{"model": "m", "tasks": ["x"]}]}, r"clients.0.name is missing"),
        (
            {"clients": [CLIENT], "deployment": {"min_updates": 1.5}},
            r"deployment.min_updates = 1.5: write a whole number of updates",
        ),
        ({"clients": [CLIENT], "train": {"lr": -1}}, r"train.lr = -1"),
        ({"clients": [CLIENT], "participation": 0}, r"participation = 0"),
        ({"clients": [CLIENT], "participation": 20}, r"participation = 20: .* set cohort to 20"),
        ({"clients": [CLIENT], "cohort": 2}, r"cohort: 2 clients .* has only 1"),
        ({"clients": [CLIENT], "cohort": 1, "participation": 0.5}, r"cohort = 1 and participation"),
    ],
)
def test_mistakes_name_the_field(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match="^f.yaml: " + message):
        parse(Scenario, content, "f.yaml")


def test_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="miniature/quickstart"):
        load_scenario("miniature/quikstart")


def test_overrides_change_single_values() -> None:
    scenario = load_scenario(
        "miniature/quickstart",
        ["train.lr=1e-3", "rounds=2", "relevance.top_k=1", "evaluation.items=null"],
    )
    assert (
        scenario.train.lr,
        scenario.rounds,
        scenario.relevance.top_k,
        scenario.evaluation.items,
    ) == (
        1e-3,
        2,
        1,
        None,
    )
    with pytest.raises(ConfigError, match="write it as key=value"):
        load_scenario("miniature/quickstart", ["rounds"])
    with pytest.raises(ConfigError, match="'rounds' is not a section"):
        load_scenario("miniature/quickstart", ["rounds.x=1"])
    with pytest.raises(ConfigError, match="'clients' is a list: edit its entries in the"):
        load_scenario("miniature/quickstart", ["clients.0.r=4"])


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "clients: [{name: a, model: m, tasks: [x]}]\ntrain: {lr: 1e-3, steps: 7}\nrounds: 3\n"
    )
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {lr: 0.5}\n")
    scenario = load_scenario(tmp_path / "mine.yaml")
    assert (scenario.train.lr, scenario.train.steps, scenario.rounds) == (0.5, 7, 3)
    (tmp_path / "circle.yaml").write_text("extends: circle.yaml\n")
    with pytest.raises(ConfigError, match="in a circle"):
        load_scenario(tmp_path / "circle.yaml")


@pytest.mark.parametrize("given", ["target_modules=[]", "shared_modules=[]", "shared_modules=[[]]"])
def test_a_list_of_no_modules_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.\w+_modules = .*names no module.*num_blocks"):
        load_scenario("miniature/quickstart", [f"adapter.{given}"])
    blocks = load_scenario("miniature/quickstart", ["adapter.shared_modules=[[], [o_proj]]"])
    assert blocks.adapter.shared_modules == ((), ("o_proj",))


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("rounds: 3\nclients: [\n")
    with pytest.raises(ConfigError, match=r"not valid YAML.*\(line \d"):
        load_scenario(path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_scenario(tmp_path / "missing.yaml")


def test_merge_does_not_change_its_arguments() -> None:
    base = {"a": {"b": 1}, "c": [1]}
    assert merge(base, {"a": {"d": 2}, "c": [2]}) == {"a": {"b": 1, "d": 2}, "c": [2]}
    assert base == {"a": {"b": 1}, "c": [1]}


OPTIONS = {name: algorithm_class(name).Options for name in algorithm_names()}


@pytest.mark.parametrize(
    "section",
    [*SECTIONS, Adaptation, *dict.fromkeys(OPTIONS.values())],
    ids=lambda section: section.__qualname__,
)
def test_every_setting_is_described(section: type[Settings]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no docstring"
        assert field.description.rstrip().endswith("."), f"{section.__name__}.{name}"


# --- settings of earlier versions -----------------------------------------------------------------
FORMER = {
    "adapter.rank=4": "'adapter.rank' is now 'adapter.r'",
    "adapter.mix=plain": "'adapter.mix' is gone",
    "alignment.layers=even": "'alignment.layers' is now 'adapter.block_rule'",
    "alignment.rank=8": "'alignment.rank' is gone: an alignment has the adapter's rank",
    "algorithms.fedmosaic.pull=0.2": "fedmosaic-interpolation.interpolation",
}


@pytest.mark.parametrize(("override", "message"), FORMER.items())
def test_former_keys_are_named_in_overrides_and_files(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^--set {re.escape(override)}: .*{re.escape(message)}"):
        load_scenario("miniature/quickstart", [override])
    key, _, value = override.partition("=")
    content: Any = {"extends": "miniature/quickstart"}
    node = content
    *path, last = key.split(".")
    for part in path:
        node = node.setdefault(part, {})
    node[last] = yaml.safe_load(value)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    if " is now " in message:  # only the name changed: the file is read, and the user is informed
        with pytest.warns(UserWarning, match=re.escape(message.replace("'", ""))):
            section, _, name = message.rpartition("'")[0].rpartition("'")[2].partition(".")
            given = getattr(getattr(load_scenario(file), section), name)
        assert given == yaml.safe_load(value)
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_algorithm("fedmosaic", load_scenario(file), 0)


def test_former_keys_are_named_in_lists_and_mappings() -> None:
    with pytest.raises(ConfigError, match=r"^f: 'clients\.0\.rank' is now 'clients\.0\.r'$"):
        parse(Scenario, {"clients": [{**CLIENT, "rank": 2}]}, "f")
    with pytest.raises(ConfigError, match=r"^f: 'alignment\.refine\.kept' is now .*in_memory'$"):
        parse(Scenario, {"clients": [CLIENT], "alignment": {"refine": {"kept": 2}}}, "f")
    with pytest.raises(ConfigError, match=r"^align: 'align\.rank' is now 'align\.r'$"):
        parse(StandaloneSettings, {"rank": 64}, "align")


def test_former_names_of_algorithms_are_explained() -> None:
    for former, new in renamed.ALGORITHMS.items():
        assert new in algorithm_names() and former not in algorithm_names()
    with pytest.raises(ConfigError, match="'fedsa_lora' is now 'fedsa-lora'"):
        make_algorithm("fedsa_lora", load_scenario("miniature/quickstart"), 0)


def test_every_new_key_exists_and_no_former_one() -> None:
    for former, new in renamed.RENAMED.items():
        assert exists(new) and not exists(former), new
    for former in renamed.REMOVED:
        assert not exists(former), former


def exists(key: str) -> bool:
    """Return whether a dotted key names a setting of a scenario or of an algorithm's options."""
    section, _, rest = key.partition(".")
    if section == "algorithms":
        name, _, option = rest.partition(".")
        return option in algorithm_class(name).Options.model_fields
    kind: Any = {"clients": config.ClientSpec, "adapter": config.AdapterSettings}.get(section)
    if section == "align":
        kind = StandaloneSettings
    if section == "alignment":
        refine = rest.startswith("refine.")
        kind = config.RefineSettings if refine else config.AlignmentSettings
    return rest.removeprefix("*.").removeprefix("refine.") in kind.model_fields


def test_translation_renames_and_leaves_out() -> None:
    former = {
        "clients": [{"name": "a", "rank": 2}],
        "adapter": {"rank": 4, "mix": "plain", "alpha": 8},
        "alignment": {"layers": "even", "rank": 16, "refine": {"questions": 9, "lr": 1}},
        "algorithms": {"fedmosaic-beside": {"foreign": 2.0}, "fedmosaic": {"pull": 0.1}},
    }
    before = json.dumps(former)
    assert renamed.translate_scenario(former) == {
        "clients": [{"name": "a", "r": 2}],
        "adapter": {"alpha": 8, "r": 4, "block_rule": "even"},
        "alignment": {"refine": {"pseudo_tasks": 9}},
        "algorithms": {"fedmosaic-additive": {"cross_architecture_weight": 2.0}, "fedmosaic": {}},
    }
    assert json.dumps(former) == before
    assert not renamed.former_settings(renamed.translate_scenario(former))


def test_a_value_that_is_gone_is_explained() -> None:
    """A run that was made with it is not continued with another value in its place."""
    assert renamed.former_settings({"relevance": {"noise": "laplace"}}) == [
        "relevance.noise = 'laplace' is gone: with a clip of the L2 norm it guarantees nothing; "
        "use gaussian, or none"
    ]
    assert renamed.former_settings({"relevance": {"noise": "gaussian"}}) == []
    with pytest.raises(ConfigError, match=r"'laplace' is gone: .* guarantees nothing; use gauss"):
        load_scenario("miniature/quickstart", ["relevance.noise=laplace"])
