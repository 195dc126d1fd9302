"""Write the result of the comparison of language models in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.claims import claims_table
from benchmarks.common.tables import COLUMNS, table_head, table_row
from fedmosaic.reporting.comparison import legend, markdown_tables


def table(content: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown from the content of the result file."""
    shares = content["own group"]
    lines = [
        "# Two pretrained language models of different families",
        "",
        f"Made by `{content['command']}`; all figures are in `language_models.json`.",
        "",
        f"{legend({'metrics': ['accuracy']})} Choices by option likelihood. In-group: the same "
        "question about other entities, at clients of both models.",
        "",
    ]
    for scenario, rows in content["scenarios"].items():
        lines += [*markdown_tables(scenario, rows), claims_table(content["claims"], COLUMNS), ""]
    lines += [
        "Share of a client's RELA weight that goes to its own group after the last round, mean "
        f"over clients (two have no group): {shares['fedmosaic']:.1f} %; with equal weights "
        f"{shares['equal']:.1f} %.",
        "",
        *_choices(content["choices"]),
        "",
        *_costs(content["runs"]),
        "",
        *_training(content["training"]),
    ]
    return "\n".join([*lines, ""])


def _choices(choices: Mapping[str, Any]) -> list[str]:
    """Return what each candidate scored, the chosen one in bold."""
    candidates = [found["candidates"] for found in choices.values()]
    rates = [entry["settings"][0].rpartition("=")[2] for entry in candidates[0]]
    lines = [
        "Choice of the learning rate, Self / Others on the validation split; **chosen**:",
        "",
        *table_head("algorithm", rates),
    ]
    for label, found in choices.items():
        cells = []
        for entry in found["candidates"]:
            failed = "failed" in entry
            text = "failed" if failed else f"{entry['self']:.1f} / {entry['others']:.1f}"
            cells.append(f"**{text}**" if entry["settings"] == found["chosen"] else text)
        lines.append(table_row([label, *cells]))
    return lines


def _costs(runs: Mapping[str, Any]) -> list[str]:
    """Return the time and the peak memory of every run."""
    labels = list(dict.fromkeys(name for found in runs.values() for name in found["seconds"]))
    lines = [
        "Cost of each run: seconds of all rounds on one core, and peak memory of the process.",
        "",
        *table_head("seed", [*labels, "total, core-minutes"]),
    ]
    for seed, found in runs.items():
        seconds, memory = found["seconds"], found["memory"]
        cells = [
            f"{seconds[name]} s, {memory[name]:.1f} GB" if name in seconds else ""
            for name in labels
        ]
        lines.append(table_row([seed, *cells, f"{sum(seconds.values()) / 60:.0f}"]))
    return lines


def _training(training: Mapping[str, Any]) -> list[str]:
    """Return the final losses and the similarities of signatures by seed."""
    names = list(dict.fromkeys(name for each in training.values() for name in each["loss"]))
    kinds = list(dict.fromkeys(kind for each in training.values() for kind in each["similarity"]))
    columns = [
        *(f"loss, {name}" for name in names),
        *(f"similarity, {kind}" for kind in kinds),
    ]
    lines = [
        "Training loss in the last two rounds, mean over clients; similarity of FedMosaic's "
        "signatures after the last round, mean (range) over pairs of clients.",
        "",
        *table_head("seed", columns),
    ]
    for seed, each in training.items():
        cells = [f"{each['loss'][name]:.2f}" if name in each["loss"] else "" for name in names]
        for kind in kinds:
            mean, least, most = each["similarity"][kind]
            cells.append(f"{mean:.2f} ({least:.2f} to {most:.2f})")
        lines.append(table_row([seed, *cells]))
    return lines
