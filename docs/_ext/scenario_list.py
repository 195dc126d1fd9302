"""List the scenarios of the package from their files: ``{scenarios} miniature``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from from_library import FromLibrary
from sphinx.application import Sphinx

from fedmosaic.config.load import SCENARIOS, load_scenario, scenario_names

FIELDS = ("Needs", "Run", "Takes")


class Scenarios(FromLibrary):
    """Show the scenarios of one folder: a table, then what each of them is, needs and takes.

    The argument is the folder; ``.`` stands for the scenarios that are in none.
    """

    def markdown(self, name: str) -> Iterator[str]:
        names = [known for known in scenario_names() if (known.rpartition("/")[0] or ".") == name]
        yield "| scenario | clients | models | tasks | rounds | stream |\n|---|---|---|---|---|---|"
        yield "\n".join(row(known) for known in names) + "\n\n"
        for known in names:
            path = SCENARIOS / f"{known}.yaml"
            self.env.note_dependency(str(path))
            yield entry(known, path.read_text()) + "\n\n"


def row(name: str) -> str:
    """Write the row of one scenario; the number of tasks counts a task once."""
    scenario = load_scenario(name)
    tasks = {task.name for client in scenario.clients for task in client.tasks}
    counts = (len(scenario.clients), len(scenario.models_used), len(tasks), scenario.rounds)
    return f"| `{name}` | {' | '.join(map(str, counts))} | {scenario.stream} |"


def entry(name: str, text: str) -> str:
    """Write what the comment at the head of a scenario's file says."""
    head = re.match(r"(?:#.*\n)+", text)
    comment = "\n".join(
        line[1:].removeprefix(" ") for line in (head[0] if head else "").split("\n")
    )
    about, *parts = re.split(rf"^({'|'.join(FIELDS)}):", comment, flags=re.M)
    found = {
        field: re.sub(r"^[ \t]+", "", content, flags=re.M).strip()
        for field, content in zip(parts[::2], parts[1::2], strict=True)
    }
    # What follows a blank line after the fields belongs to the description.
    for field, content in found.items():
        found[field], _, more = content.partition("\n\n")
        about += f"\n{more}"
    lines = [f"**`{name}`.** {plain(about)}"]
    lines += [f"- {field}: {plain(found[field])}" for field in ("Needs", "Takes") if field in found]
    command, _, note = found.get("Run", "").partition("\n")
    if command:
        lines.append(f"- Run: `{command}`" + (f" {plain(note)}" if note else ""))
    return "\n".join([lines[0], "", *lines[1:]])


def plain(text: str) -> str:
    """Join lines, and put settings and file patterns into code."""
    joined = " ".join(text.split())
    coded = (
        r"pip install (?:'[^']+'|(?:--\S+ )?[a-z]\S*(?: [\w-]+\{[\d,]+\})?)"
        r"|--set \S+=[\w./]+|(?<!\S)[\w{},-]*/?\S*<k>\.json"
    )
    return re.sub(coded, lambda found: f"`{found[0]}`", joined)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("scenarios", Scenarios)
    return {"parallel_read_safe": True}
