"""Print tables and paragraphs in a terminal or a pipe without ever breaking a name.

In a pipe or a file, lines are as long as they need to be. In a terminal, headings and sentences are
wrapped between words. A table that still does not fit is printed as one block for each row.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
SENTENCE_WIDTH = 16  # Sentences narrower than this are harder to read than one block for each row.


@dataclass(frozen=True)
class Column:
    """Describe a column of a table.

    Attributes:
        heading: its title; wrapped between words where space is short.
        right: align the cells to the right, as numbers are.
        wrap: the cells are sentences and may be wrapped between words. Other cells stay whole.
        style: a style of rich for the cells, e.g. ``"dim"``.
    """

    heading: str
    right: bool = False
    wrap: bool = False
    style: str = ""


@dataclass(frozen=True)
class Row:
    """Hold a row of a table.

    Attributes:
        cells: one text for each column.
        style: a style of rich for the whole row.
        spaced: leave a blank line before the row.
    """

    cells: Sequence[str]
    style: str = ""
    spaced: bool = False


@dataclass
class TextTable:
    """Hold a table that fits the width it is given.

    Attributes:
        columns: what the cells of each column are. The first column names the row.
        rows: the content.
        title: a line above the table; empty for none.
    """

    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    title: str = ""

    def add(self, *cells: str, style: str = "", spaced: bool = False) -> None:
        """Append a row."""
        self.rows.append(Row(cells, style, spaced))

    def lines(self, width: int | None) -> list[Text]:
        """Lay the table out.

        Args:
            width: the most characters of a line; None for no limit.

        Returns:
            The lines. Only a single name can be longer than ``width``.
        """
        title = paragraph(self.title, width, "bold") if self.title else []
        widths = self._widths(width)
        return title + (self._blocks(width) if widths is None else self._table(widths))

    def _widths(self, width: int | None) -> list[int] | None:
        """Return the width of each column, or None if the table does not fit."""
        texts = [
            (column, [row.cells[index] for row in self.rows])
            for index, column in enumerate(self.columns)
        ]
        widths = [max(map(cell_len, [column.heading, *cells])) for column, cells in texts]
        if width is None:
            return widths
        smallest = [_smallest(column, cells) for column, cells in texts]
        room = width - len(GAP) * (len(widths) - 1)
        if sum(smallest) > room:
            return None
        while sum(widths) > room:  # take from the widest column that can still give
            givers = [i for i, least in enumerate(smallest) if widths[i] > least]
            widths[max(givers, key=lambda i: widths[i])] -= 1
        return widths

    def _table(self, widths: Sequence[int]) -> list[Text]:
        headings = [_wrap(c.heading, w) for c, w in zip(self.columns, widths, strict=True)]
        height = max(map(len, headings))
        padded = [[""] * (height - len(lines)) + lines for lines in headings]
        rule = "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
        lines = [*self._side_by_side(padded, widths, "bold"), Text(rule, "dim")]
        for row in self.rows:
            lines += [Text()] if row.spaced else []
            cells = [
                _wrap(cell, width) if column.wrap else [cell]
                for column, cell, width in zip(self.columns, row.cells, widths, strict=True)
            ]
            lines += self._side_by_side(cells, widths, row.style)
        return lines

    def _side_by_side(
        self, cells: Sequence[Sequence[str]], widths: Sequence[int], style: str
    ) -> Iterable[Text]:
        """Yield the lines of one row from the lines of its cells."""
        for number in range(max(map(len, cells))):
            line = Text()
            for column, texts, width in zip(self.columns, cells, widths, strict=True):
                text = texts[number] if number < len(texts) else ""
                blank = " " * (width - cell_len(text))
                line.append(GAP if line else "")
                line.append(blank + text if column.right else text + blank, style or column.style)
            line.rstrip()
            yield line

    def _blocks(self, width: int | None) -> list[Text]:
        """Lay out one block for each row: its name, then a line for each other column."""
        indent = max((cell_len(c.heading) for c in self.columns[1:] if c.heading), default=0)
        lines = []
        for number, row in enumerate(self.rows):
            lines += [Text()] if number else []
            lines.append(Text(row.cells[0], "bold"))
            for column, cell in zip(self.columns[1:], row.cells[1:], strict=True):
                if cell:
                    heading = f"{GAP}{column.heading:<{indent}}{GAP}"
                    lines += _hanging(heading, cell, width)
        return lines


def paragraph(text: str, width: int | None, style: str = "") -> list[Text]:
    """Wrap a text between words, each of its lines for itself.

    Args:
        text: one or several lines.
        width: the most characters of a line; None for no limit. A longer word stays whole.
        style: a style of rich.

    Returns:
        The lines.
    """
    return [Text(part, style) for line in text.splitlines() for part in _wrap(line, width)]


def print_parts(
    parts: Iterable[TextTable | Text | str], console: Console | None = None, style: str = ""
) -> None:
    """Print tables and paragraphs one below the other.

    Args:
        parts: tables, and texts that are wrapped between words; an empty text is a blank line.
        console: where to print; by default standard output.
        style: a style of rich for the texts without one.
    """
    console = console or Console()
    width = console.width if console.is_terminal else None
    for part in parts:
        if isinstance(part, TextTable):
            lines = part.lines(width)
        else:
            text = part if isinstance(part, Text) else Text(part, style)
            lines = paragraph(text.plain, width, str(text.style)) or [Text()]
        for line in lines:
            console.print(line, soft_wrap=True)


def _smallest(column: Column, cells: Sequence[str]) -> int:
    """Return the smallest width of a column in which nothing breaks in mid-word."""
    words = [
        word for text in [column.heading, *(cells if column.wrap else [])] for word in text.split()
    ]
    least = max(map(cell_len, words), default=0)
    if not column.wrap:
        return max(least, *map(cell_len, cells), 0)
    longest = max(map(cell_len, cells), default=0)
    return max(least, min(longest, SENTENCE_WIDTH))


def _wrap(text: str, width: int | None) -> list[str]:
    if width is None or cell_len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _hanging(heading: str, text: str, width: int | None) -> list[Text]:
    """Wrap a text beside its heading; below it where little space is left."""
    narrow = width is not None and width - len(heading) < SENTENCE_WIDTH // 2
    indent = GAP * 2 if narrow else " " * len(heading)
    parts = _wrap(text, None if width is None else max(width - len(indent), 1))
    lines = [Text.assemble((heading.rstrip(), "dim"))] if narrow else []
    first = indent if narrow else heading
    for number, part in enumerate(parts):
        before = indent if number else first
        lines.append(Text.assemble((before, "dim"), part))
    return lines
