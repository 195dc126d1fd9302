"""Check that tables keep names whole, in a pipe and in a narrow terminal."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from fedmosaic.reporting.comparison import markdown_tables, print_comparison, shown_columns
from fedmosaic.reporting.listings import print_listing
from fedmosaic.reporting.summary import print_summary
from fedmosaic.reporting.terminal import Column, TextTable, print_parts

NAMES = ["drake/hetero-llama-3b-qwen-1.5b-3b", "miniature/quickstart", "日本語/モデル"]
SENTENCE = "four clients, three architectures, two pairs of related clients"


def table() -> TextTable:
    found = TextTable(
        [Column("scenario"), Column("title", wrap=True), Column("number of clients", right=True)]
    )
    for number, name in enumerate(NAMES):
        found.add(name, SENTENCE, str(number + 10))
    return found


def printed(*parts: Any, width: int | None = None) -> str:
    """Return what is printed on a terminal of that width, or into a pipe for None."""
    stream = io.StringIO()
    options: dict[str, Any] = {"width": width, "force_terminal": True, "color_system": None}
    print_parts(parts, Console(file=stream, **(options if width else {})))
    return stream.getvalue()


@pytest.mark.parametrize("width", [12, 40, 60, 80, 200, None])
def test_names_stay_whole(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")  # means nothing in a pipe
    shown = printed(table(), width=width)
    lines = shown.splitlines()
    assert all(name in shown for name in NAMES) and "…" not in shown
    words = shown.split()
    assert all(words.count(word) >= len(NAMES) for word in SENTENCE.split())
    longest = max(map(cell_len, NAMES))
    assert width is None or all(cell_len(line) <= max(width, longest) for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_a_pipe_gets_one_plain_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    head, rule, *rows = printed(table()).splitlines()
    assert head.split("  ")[0] == "scenario" and set(rule) == {"─"}
    assert [row.split("  ")[0] for row in rows] == NAMES
    assert all(SENTENCE in row and row.endswith(str(10 + i)) for i, row in enumerate(rows))
    assert "\x1b" not in printed(table())


def test_sentences_and_headings_wrap_before_the_layout_changes() -> None:
    lines = printed(table(), width=64).splitlines()
    assert "scenario" in lines[1] and "number of" in lines[0] and "clients" in lines[1]
    assert sum("─" in line for line in lines) == 1
    narrow = printed(table(), width=40)
    assert "─" not in narrow
    assert "  number of clients  10" in narrow.splitlines()


def test_texts_wrap_between_words() -> None:
    path = "/a/very/long/path/that/must/stay/whole/in/every/terminal"
    shown = printed(f"run folder: {path}", "", "end", width=20)
    assert shown.splitlines() == ["run folder:", path, "", "end"]
    assert printed(f"run folder: {path}") == f"run folder: {path}\n"


def figures(last: float | None) -> dict[str, float | None]:
    return {"last": last, "auc": last}


def summary(in_group: float | None, out_group: float | None) -> dict[str, Any]:
    measured = {
        "self": figures(0.5),
        "others": {
            **figures(0.25),
            "in_group": figures(in_group),
            "out_group": figures(out_group),
        },
    }
    return {
        "scenario": "s",
        "algorithm": "fedmosaic",
        "seed": 0,
        "evaluation": {"choice": "likelihood", "view": "mixed"},
        "rounds": {"done": 1, "of": 2},
        **measured,
        "clients": {"client-0": {"model": "miniature/llama-8x96", **copy.deepcopy(measured)}},
        "also": {},
        "bytes": {"up": 1000, "down": 2000},
        "seconds": {"total": 1, "train": 2, "evaluate": 3},
    }


@pytest.mark.parametrize(
    ("in_group", "out_group", "grouped"),
    [(0.3, 0.2, True), (0.25, None, False), (None, 0.25, False), (None, None, False)],
)
def test_group_columns_only_with_groups(
    in_group: float | None, out_group: float | None, grouped: bool
) -> None:
    stream = io.StringIO()
    print_summary(summary(in_group, out_group), Console(file=stream))
    shown = stream.getvalue()
    assert "s · fedmosaic · seed 0 · after 1 of 2 rounds" in shown
    assert ("in-group" in shown) == ("out-group" in shown) == grouped
    cells = "client-0 miniature/llama-8x96 50.0 25.0" + (" 30.0 20.0" if grouped else "")
    assert cells in [" ".join(line.split()) for line in shown.splitlines()]


@pytest.mark.parametrize(
    ("metrics", "measures"),
    [
        (None, "score"),
        (["accuracy"], "accuracy"),
        (["f1", "rouge_l"], "token F1 or ROUGE-L (each task by its own)"),
    ],
)
def test_the_measure_of_a_run_is_named(metrics: list[str] | None, measures: str) -> None:
    stream, measured = io.StringIO(), summary(None, None)
    if metrics is not None:
        measured["evaluation"]["metrics"] = metrics
    print_summary(measured, Console(file=stream, width=200))
    assert f"\n{measures} in % after the last round" in stream.getvalue()


def result(**rows: dict[str, Any]) -> dict[str, Any]:
    costs = {"seeds": [0], "steps": 1, "bytes": {"up": 1, "down": 1}, "seconds": 1}
    algorithms = {label: {**costs, **row} for label, row in rows.items()}
    head = {"scenario": "s", "seeds": [0], "budget": "equal steps", "failed": []}
    return {**head, "algorithms": algorithms}


def test_a_comparison_shows_only_what_there_is() -> None:
    one = {"mean": 50.0, "ci95": None, "values": [50.0]}
    gap = {"mean": 2.0, "ci95": None}
    single = result(fedmosaic={"Self": one, "in-group": one})
    assert shown_columns(single["algorithms"]) == ["Self"]
    both = result(
        sft={"Self": one},
        fedmosaic={"Self": {**one, "minus sft": gap, "minus best": {"of": "sft", **gap}}},
    )
    stream = io.StringIO()
    print_comparison(both, Console(file=stream))
    shown = " ".join(stream.getvalue().split())
    assert "difference to local training (sft)" in shown and "fedmosaic 50.0 +2.0 +2.0 sft" in shown
    stream = io.StringIO()
    print_comparison(single, Console(file=stream))
    table_lines = [line.split("  ")[0] for line in stream.getvalue().splitlines()]
    assert table_lines.count("algorithm") == 1 and "rank  " not in stream.getvalue()
    page = "\n".join(markdown_tables("s", single["algorithms"]))
    assert "best of the other" not in page and "In brackets" not in page and "in-group" not in page


@pytest.mark.parametrize("width", [40, 80])
def test_lists_keep_names_whole_in_a_terminal(width: int) -> None:
    stream = io.StringIO()
    print_listing("scenarios", Console(file=stream, width=width, force_terminal=True))
    assert "drake/hetero-llama-3b-qwen-1.5b-3b" in stream.getvalue()
