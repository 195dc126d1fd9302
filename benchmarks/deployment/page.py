"""Write results/deployment.md from the results of kills, faults and round_time.

python -m benchmarks.deployment.page
"""

from __future__ import annotations

from typing import Any

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import RESULTS, read_result
from benchmarks.common.tables import table_head, table_row

INTRODUCTION = """# Across machines

`fedmosaic server` and three clients with three architectures, each a program of its own with its
own folder and keys, over TLS on one machine with two processor cores. Other programs used the
machine, too, so times are upper limits.
"""


def kills_section(found: dict[str, Any]) -> list[str]:
    """Return the section about random kills."""
    counts = ", ".join(f"{kind} {number}" for kind, number in found["by process"].items())
    differs = found["different from the run in one process"]
    return [
        "## Killed at random moments\n",
        f"`{found['command']}`\n",
        f"{len(found['kills'])} times a process was killed with SIGKILL in {found['rounds']} "
        f"rounds ({counts}). Different from `fedmosaic run`: {', '.join(differs) or 'nothing'}. Of "
        f"{found['turns']} turns {found['turns trained twice']} were trained twice. Processes "
        f"left: {len(found['processes left'])}. It took {found['seconds']:.0f} s.\n",
    ]


def faults_section(found: dict[str, Any]) -> list[str]:
    """Return the section about one fault after the other."""
    lines = ["## One fault after the other\n", f"`{found['command']}`\n"]
    for part in ("without loss", "with loss"):
        if part not in found:
            continue
        differs = found[part].get("different from the run in one process")
        if differs is not None:
            same = ", ".join(differs) or "nothing"
            lines.append(f"Nothing is lost. Different from `fedmosaic run`: {same}.\n")
        else:
            lines.append("The update of a round is lost, and the round goes on without it.\n")
        lines += table_head("fault", ["named as", "next round after (s)"])
        for one in found[part]["faults"]:
            seconds = one.get("next round after (s)", "")
            lines.append(table_row([one["fault"], f"`{one['named']}`", str(seconds)]))
        lines.append("")
    if "refusals" in found:
        lines.append("Refused clients end with exit status 2 and this line:\n")
        lines += table_head("client", ["line"])
        for label, line in found["refusals"]["last lines"].items():
            lines.append(table_row([label, f"`{line.removeprefix('fedmosaic: ')}`"]))
        lines.append("")
    return lines


def time_section(found: dict[str, Any]) -> list[str]:
    """Return the section about seconds and bytes of a round."""
    sizes = [name for name in found if name != "command"]
    lines = ["## A round in steady state\n", f"`{found['command']}`\n"]
    lines += table_head("medians", sizes)
    for row in found[sizes[0]]:
        lines.append(table_row([row, *(f"{found[size][row]:,}" for size in sizes)]))
    return [*lines, ""]


SECTIONS = {
    "deployment_kills": kills_section,
    "deployment_faults": faults_section,
    "deployment_round_time": time_section,
}


def main() -> None:
    """Write the page from the results that are there."""
    benchmark_parser(__doc__).parse_args()
    lines = [INTRODUCTION]
    for name, section in SECTIONS.items():
        if (RESULTS / f"{name}.json").is_file():
            lines += section(read_result(name))
    (RESULTS / "deployment.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
