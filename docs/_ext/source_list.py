"""List the data sets of a benchmark with their sources and licences: ``{sources} drake``."""

from __future__ import annotations

from collections.abc import Iterator

from from_library import FromLibrary
from sphinx.application import Sphinx

from fedmosaic.data.sources import sources_of


class Sources(FromLibrary):
    """Show a table of a benchmark's data sets."""

    def markdown(self, name: str) -> Iterator[str]:
        yield "| data set | tasks | what they ask | pictures | licence of the source |"
        yield "|---|---|---|---|---|"
        for source in sources_of(name):
            tasks = f"{len(source.subsets)}{' (unseen)' if source.unseen else ''}"
            link = f"[{source.name}]({source.address})"
            cells = (link, tasks, source.content, source.images, source.licence)
            yield f"| {' | '.join(cells)} |"
        yield "\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("sources", Sources)
    return {"parallel_read_safe": True}
