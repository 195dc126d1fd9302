"""Write the paths of a run in full, so that the run can be continued from any folder."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.config.paths import change_paths
from fedmosaic.data.registry import PUBLIC_SOURCES, TASK_SOURCES
from fedmosaic.data.task_files import is_file_task
from fedmosaic.models import names, packaged

MODELS = ("model", "alignment.pivot", "relevance.model")
FOLDERS = ("data.root", "alignment.refine.join")


def located(settings: RunSettings) -> RunSettings:
    """Return the settings with every path in full, as it is meant in the present working folder.

    - Folders, and models that are folders or files, are written in full.
    - Where a task or public data may be a file and ``data.root`` is not set, it becomes the working
      folder.
    - Names of tasks stay, since draws and tables go by them. A file that is found in the working
      folder and not below ``data.root`` is named in full.
    """
    content = settings.scenario.model_dump(mode="json")
    data = content["data"]
    refs = [spec.name for client in settings.scenario.clients for spec in client.tasks]
    refs += [spec.name for spec in settings.scenario.unseen]
    from_files = any(ref.partition("/")[0] not in TASK_SOURCES for ref in refs)
    if data["root"] is None and (from_files or data["public"] not in ("none", *PUBLIC_SOURCES)):
        data["root"] = str(Path.cwd())
    root = Path(data["root"] or "")

    def in_full(field: str, text: str) -> str:
        if field in FOLDERS:
            return str(Path(text).expanduser().absolute())
        if field.endswith(MODELS):
            return _model(text)
        built_in = text == "none" or text in PUBLIC_SOURCES or text.split("/")[0] in TASK_SOURCES
        if built_in or (root / text).exists() or not Path(text).exists():
            return text
        is_file = Path(text).is_file() or is_file_task(text, root)
        return str(Path(text).absolute()) if is_file else text

    change_paths(content, in_full)
    scenario = parse(Scenario, content, settings.name, recorded=True)
    return settings.model_copy(update={"scenario": scenario})


def _model(name: str) -> str:
    if name == "smallest" or name.startswith((names.PREFIX, packaged.PREFIX)):
        return name
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name
