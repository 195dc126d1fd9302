"""Test README and documentation: links resolve, examples run, figures are the published ones."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from benchmarks.accuracy import evidence_short
from fedmosaic.algorithms import algorithm_class, algorithm_names
from fedmosaic.cli import build_parser, main
from fedmosaic.config import Scenario, SiteSettings, load
from fedmosaic.config.load import load_scenario, parse
from fedmosaic.data import read_examples
from tiny_scenario import TINY

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
RESULTS = ROOT / "benchmarks" / "results"
# Other tests run the examples of these pages.
RUN_ELSEWHERE = {"CONTRIBUTING.md", "own-data.md", "deployment.md"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run (empty: it is run)."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    reason, lines = "", page.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if opened := re.fullmatch(r"(`{3,})(.*)", line):
            end = lines.index(opened[1], number + 1)
            yield Block(
                page, number + 1, opened[2], "\n".join(lines[number + 1 : end]) + "\n", reason
            )
            reason, number = "", end
        elif mark := re.fullmatch(r"<!-- not run: (.+) -->", line):
            reason = mark[1]
        elif line.strip():
            reason = ""
        number += 1


BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [
    b
    for b in BLOCKS
    if b.language in ("python", "bash", "shell")
    and b.page.name not in RUN_ELSEWHERE
    and not b.not_run
]
RUN_PAGES = list(dict.fromkeys(block.page for block in RUN))


def name_of(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(page)


# --- links -------------------------------------------------------------------------------------
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    heads = [re.sub(r"[`*]", "", head) for head in re.findall(r"^#+ (.+)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"(?:\]\(|src=\")(?!https?:)([^)\s\"]+)", page.read_text()):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_every_algorithm_is_documented() -> None:
    variants = (DOCS / "algorithms" / "fedmosaic-variants.md").read_text()
    for name in algorithm_names():
        assert (DOCS / "algorithms" / f"{name}.md").is_file() or re.search(
            rf"(### |\| `){name}\b", variants
        ), name


def test_every_benchmark_is_listed() -> None:
    text = (DOCS / "reproducing.md").read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for path in [*ROOT.glob("benchmarks/accuracy/*.py"), *ROOT.glob("benchmarks/cost/*.py")]:
        if "__main__" in path.read_text():
            assert f"benchmarks.{path.parent.name}.{path.stem}" in text, path.stem


def test_every_table_of_results_has_a_page() -> None:
    assert {path.name for path in RESULTS.glob("*.md")} == {
        path.name for path in (DOCS / "tables").glob("*.md") if path.name != "index.md"
    }


# --- examples ----------------------------------------------------------------------------------
def test_every_block_of_code_is_python() -> None:
    for block in BLOCKS:
        if block.language == "python":
            compile(block.text, str(block), "exec")


def commands(block: Block) -> list[list[str]]:
    """The calls of ``fedmosaic`` in a block."""
    return [
        shlex.split(line)[1:] for line in block.text.splitlines() if line.startswith("fedmosaic ")
    ]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("bash", "shell")], ids=str)
def test_commands_are_commands(block: Block) -> None:
    assert block.not_run or len(commands(block)) == len(block.text.splitlines()), (
        "only fedmosaic can be run by a test"
    )
    for command in commands(block):
        given = build_parser().parse_args(command)
        scenario = getattr(given, "scenario", None)
        if scenario and not scenario.endswith((".yaml", ".json")):
            load_scenario(scenario, given.overrides)
        if getattr(given, "algorithm", None):
            algorithm_class(given.algorithm)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_scenarios_and_files_of_clients_are_right(block: Block) -> None:
    content = yaml.safe_load(block.text)
    parse(SiteSettings if "model" in content else Scenario, content, str(block))


def test_data_files_are_data_files(tmp_path: Path) -> None:
    shown = [block for block in BLOCKS if block.language == "json"]
    assert shown
    for block in shown:
        (tmp_path / "example.json").write_text(block.text)
        assert read_examples(tmp_path / "example.json")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with small scenarios of the package's names and the files of the examples."""
    place = tmp_path_factory.mktemp("docs")
    small = {
        **TINY,
        "rounds": 2,
        "evaluation": {"every": 2},
        "clients": [dict(client) for client in TINY["clients"]],
    }
    for index, client in enumerate(small["clients"]):
        client["name"] = f"client-{index}"
    (place / "scenarios" / "miniature").mkdir(parents=True)
    (place / "scenarios" / "miniature" / "quickstart.yaml").write_text(yaml.safe_dump(small))
    (place / "data").mkdir()
    for name, colour in (("north", "red"), ("south", "blue")):
        Image.new("RGB", (32, 32), colour).save(place / "data" / f"{name}.png")
        turns = [
            {"from": "human", "value": "<image>\nWhich colour? Choice list:[red, blue]"},
            {"from": "gpt", "value": colour},
        ]
        items = [{"id": str(k), "image": f"{name}.png", "conversations": turns} for k in range(5)]
        (place / "data" / f"{name}.json").write_text(json.dumps(items))
    return place


def smaller(scenario: dict[str, Any]) -> dict[str, Any]:
    """The scenario with one round of two small steps and few public examples."""
    changed = {**scenario, "rounds": 1}
    changed["train"] = {**changed["train"], "steps": 2, "batch_size": 2}
    changed["data"] = {**changed["data"], "public_size": 32}
    return changed


@pytest.mark.parametrize("page", RUN_PAGES, ids=name_of)
def test_examples_run(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All blocks of a page in their order, in this process; a page's Python shares its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "SCENARIOS", workplace / "scenarios")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for path in workplace.iterdir():
        (tmp_path / path.name).symlink_to(path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        if block.page == page and (named := re.match(r"# ([\w-]+\.yaml)\n", block.text)):
            (tmp_path / named[1]).write_text(yaml.safe_dump(smaller(yaml.safe_load(block.text))))
        if block.page != page or block not in RUN:
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        for command in commands(block):
            assert main(command) == 0, f"{block}: fedmosaic {shlex.join(command)}"


# --- figures -----------------------------------------------------------------------------------
README = (ROOT / "README.md").read_text()


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 9000


def test_the_figures_of_the_readme_are_the_published_ones() -> None:
    parts = json.loads((RESULTS / "evidence.json").read_text())
    assert evidence_short.readme_table(parts) in README


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", DOCS / "choosing.md", DOCS / "algorithms/fedmosaic-variants.md"],
    ids=name_of,
)
def test_every_interval_that_a_page_quotes_stands_in_a_result(page: Path) -> None:
    figure = re.compile(r"(\d+\.\d) ± (\d+\.\d)")
    text = page.read_text()
    linked = set(re.findall(r"benchmarks/results/([\w-]+\.md)", text)) or {"evidence.md"}
    known = {found for file in linked for found in figure.findall((RESULTS / file).read_text())}
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    assert not [found for found in figure.findall(prose) if found not in known]


def test_the_costs_are_the_measured_ones() -> None:
    text = (DOCS / "choosing.md").read_text()
    rows = json.loads((RESULTS / "evidence.json").read_text())["static"]["rows"]
    table = text[text.index("| algorithms | leave the client") :].partition("\n\n")[0]
    named = set()
    for line in table.splitlines()[2:]:
        algorithms, _, megabytes = (cell.strip() for cell in line.strip("|").split("|"))
        for name in {word.strip(",") for word in algorithms.split()} & set(rows):
            sent = [rows[name]["bytes"][way] / 1e6 for way in ("up", "down")]
            assert megabytes == " / ".join(f"{value:.1f}" for value in sent), name
            named.add(name)
    assert {name for name, row in rows.items() if row["algorithm"] == name} <= named
    ratios = {
        kind: row["ratio"]["median"]
        for name in ("step_time", "step_time_vision")
        for kind, row in json.loads((RESULTS / f"{name}.json").read_text())["step"].items()
    }
    assert f"took {ratios['fedmosaic']:.2f} of the time" in text
    assert f"{ratios['vision_lora']:.2f} with LoRA" in text
    assert f"{ratios['vision_fedmosaic']:.2f} with FedMosaic's two branches" in text
    steps = dict(
        re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", (RESULTS / "equal_compute.md").read_text(), re.M)
    )
    for name, label in (
        ("fedmosaic", "FedMosaic"),
        ("fedsim", "FedSim"),
        ("feddat", "FedDAT"),
        ("feddistill", "FedDistill"),
        ("flora", "FLoRA"),
    ):
        assert f"{steps[name]} of {label}" in text, name
