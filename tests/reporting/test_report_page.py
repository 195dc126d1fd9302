"""Check the numbers on the page, that names cannot inject markup, and that the bytes repeat."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest
import yaml

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.reporting.comparison import difference, mean
from fedmosaic.reporting.html.drawing import plain
from fedmosaic.reporting.html.page import data
from fedmosaic.reporting.html.palette import plot_styles
from fedmosaic.reporting.html.tables import ReportTable


class Page(HTMLParser):
    """Collect the tags, ids, links, table cells by class, and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self.links: list[str] = []
        self._table = self._cell = ""
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [
            value for name in ("src", "href", "xlink:href") if (value := given.get(name))
        ]
        if tag == "table":
            self._table = f"{(given.get('class') or '').split()[0]} {len(self.tables)}"
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in ("td", "th") and self._table:
            self.tables[self._table][-1].append("")
            self._cell = tag
        elif tag == "span" and self._cell:
            self.tables[self._table][-1][-1] += " "
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        if tag == self._cell:
            self._cell = ""
        if tag == "script":
            self._in_script = False

    def handle_data(self, text: str) -> None:
        if self._in_script:
            self.scripts.append(text)
        elif self._cell:
            self.tables[self._table][-1][-1] += text

    def table(self, kind: str, place: int = 0) -> list[list[str]]:
        found = [rows for name, rows in self.tables.items() if name.split()[0] == kind]
        return [[" ".join(cell.split()) for cell in row] for row in found[place]]


def test_a_scenario_without_a_name_of_its_own_is_named_once(comparison_folder: Path) -> None:
    """Check a scenario that was given as an object: its name is its title."""
    for path in comparison_folder.glob("*/seed-*/config.yaml"):
        content = yaml.safe_load(path.read_text())
        path.write_text(
            yaml.safe_dump(
                {
                    **content,
                    "name": "Six clients",
                    "scenario": {**content["scenario"], "title": "Six clients"},
                }
            )
        )
    assert (
        '<p class="where">Six clients · static</p>'
        in fedmosaic.report(comparison_folder).read_text()
    )


def test_the_table_holds_the_comparison(comparison_folder: Path) -> None:
    page = Page(fedmosaic.report(comparison_folder).read_text())
    result = json.loads((comparison_folder / "comparison.json").read_text())["algorithms"]
    head, *rows = page.table("main")
    assert head == ["algorithm", "Self", "Others", "in-group", "out-group"]
    for row, (label, figures) in zip(rows, result.items(), strict=True):
        expected = [label]
        for column in head[1:]:
            gap = difference(figures[column].get("minus sft")).replace("-", "−")
            expected.append(" ".join([mean(figures[column]), gap]).strip())
        assert row == expected
    assert "−" in str(rows) or "+" in str(rows)


def test_the_matrices_hold_the_runs(comparison_folder: Path) -> None:
    page = Page(fedmosaic.report(comparison_folder).read_text())
    relevance, tasks, gates = (page.table("cells", place) for place in range(3))
    lines = [
        [
            json.loads(line)
            for line in (comparison_folder / "fedmosaic" / f"seed-{seed}" / "metrics.jsonl")
            .read_text()
            .splitlines()
        ]
        for seed in (0, 1)
    ]
    last = [
        next(x for x in found if x["kind"] == "round" and x["round"] == 1)["relevance"]["weights"]
        for found in lines
    ]
    for i in range(4):
        for j in range(4):
            shown = relevance[1 + i][1 + j]
            assert (
                shown == ""
                if i == j
                else int(shown) == pytest.approx(50 * (last[0][i][j] + last[1][i][j]), abs=0.6)
            )
    summaries = [
        json.loads((comparison_folder / "fedmosaic" / f"seed-{seed}" / "summary.json").read_text())
        for seed in (0, 1)
    ]
    assert [row[0].split()[0] for row in tasks[1:]] == [
        "stages-0",
        "stages-2",
        "idiom-3",
        "idiom-1",
    ]
    for row in tasks[1:]:
        for client, shown in zip("abcd", row[1:], strict=True):
            values = [
                s["clients"][client]["tasks"][f"miniature/{row[0].split()[0]}"] for s in summaries
            ]
            assert int(shown) == pytest.approx(100 * sum(values) / 2, abs=0.6)
    assert len(gates[1]) == 13 and gates[1][9:] == [
        "",
        "",
        "",
        "",
    ]  # client a has eight layers of at most twelve


def test_names_are_text_and_nothing_else(comparison_folder: Path) -> None:
    hostile = yaml.safe_load((comparison_folder / "sft" / "seed-0" / "config.yaml").read_text())[
        "scenario"
    ]["clients"][2]["group"]
    text = fedmosaic.report(comparison_folder).read_text()
    page = Page(text)
    assert page.tags.count("b") == 2  # the two means on the cards
    assert page.tags.count("script") == 4 and not any(
        "alert" in s and "frames" not in s for s in page.scripts
    )
    assert (
        "&lt;b&gt;&amp;&lt;/script&gt;" in text and "</script>" in hostile and hostile not in text
    )
    assert len(page.ids) == len(set(page.ids))
    inside = {link for link in page.links if link.startswith("#")}
    assert inside and all(link[1:] in page.ids for link in inside) and set(page.links) == inside
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http-equiv", "")


def test_data_cannot_end_its_script() -> None:
    content = {"a": "</script><!--<script>&\u2028"}
    text = str(data(content))
    assert json.loads(text) == content and not set("<>&\u2028") & set(text)


def test_the_same_input_gives_the_same_bytes(
    comparison_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    for out in (one, two):
        assert (
            main(
                [
                    "report",
                    str(comparison_folder),
                    "--out",
                    str(out),
                    "--export",
                    str(tmp_path / out.stem),
                ]
            )
            == 0
        )
    assert f"wrote {one}" in capsys.readouterr().out
    assert one.read_bytes() == two.read_bytes() and len(one.read_bytes()) < 5_000_000
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        for name in names
    )
    pictures = [
        f"{name}.{kind}" for name in ("self-others", "rounds", "costs") for kind in ("svg", "png")
    ]
    written = ["comparison", "costs", "rounds", "relevance", "tasks", "gates"]
    assert set(names) == {
        *pictures,
        *(f"{n}.csv" for n in written),
        *(f"{n}.{k}" for n in written[:2] for k in ("md", "tex")),
    }
    for name in ("self-others", "rounds", "costs"):
        drawn = (tmp_path / "one" / f"{name}.svg").read_text()
        assert ">sft</text>" in drawn and ">fedmosaic</text>" in drawn and "DejaVu" in drawn
    # Names that stand beside their points need no legend.
    assert (tmp_path / "one" / "self-others.svg").read_text().count(">sft</text>") == 1
    with PIL.Image.open(tmp_path / "one" / "rounds.png") as image:
        assert image.width > 1000
    rows = list(csv.DictReader((tmp_path / "one" / "comparison.csv").open()))
    result = json.loads((comparison_folder / "comparison.json").read_text())["algorithms"]
    for row in rows:
        figure = result[row["algorithm"]][row["figure"]]
        assert float(row["mean"]) == figure["mean"] and row["values"].split() == [
            str(v) for v in figure["values"]
        ]


def test_a_single_run_has_no_comparison(comparison_folder: Path, tmp_path: Path) -> None:
    run = comparison_folder / "fedmosaic" / "seed-0"
    text = fedmosaic.report(run, export=tmp_path).read_text()
    page = Page(text)
    headings = re.findall(r"<h2>(.*?)(?: <small>.*)?</h2>", text)
    assert headings == [
        "Self",
        "Others",
        "Favoured peers",
        "Accuracy",
        "Accuracy over rounds",
        "Relevance weights",
        "Each client on each task",
        "Gates by layer",
        "Cost",
        "Settings",
    ]
    shown = re.sub(r"<(script|style|pre)>.*?</\1>", "", text, flags=re.S)
    words = ("±", "difference", "certainty", "rank", "local training", "mean over seeds", "95 %")
    assert not [word for word in words if word in shown]
    assert all(all(row) for row in page.table("main") + page.table("plain"))
    assert "self-others.svg" not in {path.name for path in tmp_path.iterdir()}


def test_without_groups_there_is_nothing_about_groups(
    comparison_folder: Path, tmp_path: Path
) -> None:
    """Check a scenario whose clients name no group, which makes them one group."""
    for folder in comparison_folder.glob("*/seed-*"):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        for client in config["scenario"]["clients"]:
            client["group"] = ""
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        summary = json.loads((folder / "summary.json").read_text())
        for found in (summary, *summary["clients"].values()):
            found["others"]["out_group"] = dict.fromkeys(found["others"]["out_group"])
        (folder / "summary.json").write_text(json.dumps(summary))
    text = re.sub(
        r"<pre>.*?</pre>", "", fedmosaic.report(comparison_folder, export=tmp_path).read_text()
    )
    page = Page(text)
    assert page.table("main")[0] == ["algorithm", "Self", "Others"]
    assert not re.search(r"\b(in-group|out-group|own group|same group)\b", text)
    assert "group" not in [row[1] for row in page.table("plain")]
    assert "in-group" not in (tmp_path / "comparison.md").read_text()
    assert "in-group" not in (tmp_path / "comparison.csv").read_text()


def test_tables_for_a_paper() -> None:
    table = ReportTable(["a", "b"], [["50 % of $x_1", "61.3 ± 4.3"], ["p|q", None]])
    assert r"50 \% of \$x\_1 & 61.3 $\pm$ 4.3 \\" in table.latex()
    assert r"| p\|q |" in table.markdown() and table.markdown().startswith(
        "| a | b |\n| --- | --- |\n"
    )
    assert table.csv().splitlines()[2] == "p|q,"


def test_every_label_looks_different_and_the_same_everywhere() -> None:
    found = plot_styles(["sft", *(f"x{index}" for index in range(20)), "fedmosaic"])
    assert len(set(found.values())) == 22
    assert plot_styles(["fedmosaic", "sft"]) == {
        label: found[label] for label in ("fedmosaic", "sft")
    }
    assert plain("a$b\x00\n" + "c" * 99) == r"a\$b " + "c" * 35 + "…"
