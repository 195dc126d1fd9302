"""Read the scenario files of FedMosaic's research release as they are.

Such a file lists clients and nothing else::

    [{"client_id": 0, "model_id": "thkim0305/llama3.2_1B_vl",
      "datasets": [{"dataset": "iconqa", "subset_id": 2, "type": "open-ended", "metric": "F1"}]}]

The settings that it does not hold are those of the shipped scenario with the same clients. Where no
shipped scenario has the same clients, they are those of the benchmark that has most of its tasks.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.errors import ConfigError, nearest

BENCHMARKS = (
    "drake/hetero-llama-1b-3b",
    "hflb/hetero-llama-1b-3b",
    "fed-aya",
    "fed-scope",
    "fed-llm-large",
)
"""Shipped scenarios whose settings a file of the release can have."""

_KINDS = {"multi-choice": "choice", "open-ended": "open"}
_METRICS = {"accuracy": "accuracy", "f1": "f1", "rougel": "rouge_l"}
CLIENT_FIELDS = ("client_id", "model_id", "datasets")
_TASK_FIELDS = ("dataset", "subset_id", "type", "metric")

Content = dict[str, Any]
"""Nested mappings of a scenario, before they are validated."""


def from_release(
    entries: Sequence[Any], path: Path, names: Sequence[str], read: Callable[[str], Content]
) -> Content:
    """Return the scenario of a file of the release, and warn where its settings come from.

    Args:
        entries: content of the file.
        path: the file, for messages.
        names: names of the shipped scenarios.
        read: returns the content of a shipped scenario.

    Raises:
        ConfigError: the file lists tasks without clients, or unseen tasks only; a field is missing
            or wrong; or no shipped benchmark has one of its data sets.
    """
    if not entries:
        raise ConfigError(f"{path} is an empty list; a scenario needs at least one client")
    clients = [_client(entry, f"{path}: entry {index}") for index, entry in enumerate(entries)]
    tasks = {name: None for client in clients for name in _task_names(client)}
    benchmark = _benchmark(tasks, path, read)
    base = read(benchmark)
    unseen = _task_names({"tasks": base.get("unseen", [])})
    if set(tasks) <= set(unseen):
        raise ConfigError(
            f"{path} lists unseen tasks only ({', '.join(tasks)}), which clients meet after a run: "
            f"run a scenario that has them under 'unseen', such as {benchmark}, then "
            f"`fedmosaic adapt RUN --tasks {','.join(tasks)}`"
        )
    folder = benchmark.rpartition("/")[0]
    family = [name for name in names if folder and name.startswith(f"{folder}/")] or [benchmark]
    same = next((name for name in family if _plain(read(name)["clients"]) == _plain(clients)), None)
    unused = f"; not used: {', '.join(fields)}" if (fields := list(_unused(entries))) else ""
    warnings.warn(
        f"{path} is a scenario file of the research release, which holds no settings: they are "
        f"those of {same or benchmark}{unused}",
        stacklevel=4,
    )
    return read(same) if same else _with_settings(clients, base, path.stem)


def _with_settings(clients: list[Content], base: Content, title: str) -> Content:
    """Return a benchmark's settings with other clients.

    A client is in the group of its tasks, if they share one. Each task has as many rounds as in the
    benchmark.
    """
    content = copy.deepcopy(base)
    longest = max(len(client["tasks"]) for client in base["clients"])
    group_of = {
        task: client.get("group", "") for client in base["clients"] for task in _task_names(client)
    }
    for client in clients:
        groups = {group_of.get(task, "") for task in _task_names(client)}
        client["group"] = groups.pop() if len(groups) == 1 else ""
    used = {task for client in clients for task in _task_names(client)}
    content["unseen"] = [task for task in base.get("unseen", []) if task not in used]
    rounds = base["rounds"] * max(len(client["tasks"]) for client in clients) // longest
    return content | {"title": title, "clients": clients, "rounds": rounds}


def _client(entry: Any, where: str) -> Content:
    """Return a client's settings."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is not an object with {', '.join(CLIENT_FIELDS)}")
    if "dataset" in entry and "datasets" not in entry:
        raise ConfigError(
            f"{where} is a task, not a client: a scenario file of the release lists clients, each "
            f"with {', '.join(CLIENT_FIELDS)}"
        )
    for field in CLIENT_FIELDS:
        if field not in entry:
            raise ConfigError(f"{where}, field {field!r}: missing")
    if not isinstance(entry["datasets"], list) or not entry["datasets"]:
        raise ConfigError(f"{where}, field 'datasets': expected a list of at least one task")
    tasks = [
        _task(task, f"{where}, dataset {number}") for number, task in enumerate(entry["datasets"])
    ]
    return {"name": f"client-{entry['client_id']}", "model": entry["model_id"], "tasks": tasks}


def _task(entry: Any, where: str) -> Content:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is not an object with {', '.join(_TASK_FIELDS)}")
    for field in _TASK_FIELDS[:3]:
        if field not in entry:
            raise ConfigError(f"{where}, field {field!r}: missing")
    subset = entry["subset_id"]
    if not isinstance(subset, int) or isinstance(subset, bool):
        raise ConfigError(f"{where}, field 'subset_id': {subset!r} is not a whole number")
    task = {"name": f"{entry['dataset']}-{subset}", "kind": _known(entry, "type", _KINDS, where)}
    if entry.get("metric") is not None:
        task["metric"] = _known(entry, "metric", _METRICS, where)
    return task


def _known(entry: Mapping[str, Any], field: str, words: Mapping[str, str], where: str) -> str:
    """Return what a word of the release is called here; capitals and separators do not matter."""
    written = str(entry[field])
    plain = {key.replace("-", ""): value for key, value in words.items()}
    found = plain.get(written.lower().replace("-", "").replace("_", ""))
    if found is None:
        hint = nearest(written, words)
        raise ConfigError(f"{where}, field {field!r}: unknown {written!r}.{hint}")
    return found


def _benchmark(tasks: Mapping[str, None], path: Path, read: Callable[[str], Content]) -> str:
    """Return the benchmark that shares most tasks with a file, or else most data sets."""

    def shared(name: str) -> tuple[int, int]:
        content = read(name)
        known = {task for client in content["clients"] for task in _task_names(client)}
        known |= set(_task_names({"tasks": content.get("unseen", [])}))
        return len(known & set(tasks)), len(_datasets(known) & _datasets(tasks))

    counts = {name: shared(name) for name in BENCHMARKS}
    best = max(BENCHMARKS, key=lambda name: counts[name])
    if counts[best] == (0, 0):
        raise ConfigError(
            f"{path} holds no settings, and no benchmark that comes with fedmosaic has its data "
            f"sets ({', '.join(sorted(_datasets(tasks)))}): write a .yaml scenario with them"
        )
    return best


def _datasets(tasks: Mapping[str, None] | set[str]) -> set[str]:
    return {task.rpartition("-")[0] for task in tasks}


def _task_names(client: Mapping[str, Any]) -> list[str]:
    return [task if isinstance(task, str) else task["name"] for task in client["tasks"]]


def _plain(clients: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what of clients a file of the release holds, in one form."""
    listed = [task for client in clients for task in client["tasks"]]
    full = [{"name": task} if isinstance(task, str) else task for task in listed]
    tasks = [(task["name"], task.get("kind") or "choice", task.get("metric")) for task in full]
    return [[(c["name"], c["model"], len(c["tasks"])) for c in clients], tasks]


def _unused(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in entries:
        where = f"client {entry['client_id']}"
        yield from (f"{field!r} of {where}" for field in entry if field not in CLIENT_FIELDS)
        for task in entry["datasets"]:
            place = f"{task['dataset']}-{task['subset_id']} of {where}"
            yield from (f"{field!r} of {place}" for field in task if field not in _TASK_FIELDS)
