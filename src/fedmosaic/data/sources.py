"""List the data sets of DRAKE and HFLB: their tasks, where their images come from, their licences.

Both benchmarks are on the Hugging Face Hub, one archive a data set. Their own licences cannot
override those of their sources, so each source's is listed. It is the one that its publisher states
for the data set; images that were collected from the web may have others. A licence is ``unknown``
where none was found; this is no permission.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmosaic.errors import DataError, nearest

Split = Literal["train", "test"]
UNKNOWN = "unknown"
_SLASH = re.compile(r"/(?=\d+$)")  # a task's name may be written VSR/0


@dataclass(frozen=True)
class Benchmark:
    """Describe a benchmark on the Hugging Face Hub.

    Attributes:
        name: as on the command line.
        title: as written in text.
        repository: dataset repository on the Hub.
        root: folder that its scenarios name as ``data.root``.
        licence: of the repository as a whole, as its card states it.
    """

    name: str
    title: str
    repository: str
    root: Path
    licence: str


@dataclass(frozen=True)
class DataSource:
    """Describe a data set of a benchmark.

    Attributes:
        name: of its folder and archive, and the first part of its tasks' names.
        benchmark: name of the benchmark.
        subsets: numbers of its tasks: ``VISION-0`` and ``VISION-1``.
        content: what its tasks ask.
        images: where its images come from.
        licence: of the source; :data:`UNKNOWN` if none was found.
        address: of the source.
        open_ended: numbers of the tasks whose answers are generated text; all others are choices.
        unseen: whether its tasks are for clients that have finished training.
    """

    name: str
    benchmark: str
    subsets: tuple[int, ...]
    content: str
    images: str
    licence: str
    address: str
    open_ended: tuple[int, ...] = ()
    unseen: bool = False

    @property
    def tasks(self) -> list[str]:
        """Return the names of its tasks."""
        return [f"{self.name}-{subset}" for subset in self.subsets]


BENCHMARKS = {
    "drake": Benchmark("drake", "DRAKE", "SNUMPR/DRAKE", Path("data/DRAKE"), "CC BY 4.0"),
    "hflb": Benchmark("hflb", "HFLB", "SNUMPR/HFLB", Path("data/HFLB"), UNKNOWN),
}

_COCO = "MS COCO (Flickr)"
_DRAKE = [
    DataSource("Fashion200K", "drake", (0, 1, 2), "clothes: how many, same style, same colour",
               "a shop's web pages", UNKNOWN, "https://github.com/xthan/fashion-200k"),
    DataSource("FashionIQ", "drake", (0,), "clothes: does a text say how two differ",
               "a shop's web pages", "CDLA (community data licence)",
               "https://github.com/XiaoxiaoGuo/fashion-iq"),
    DataSource("NLVR2", "drake", (0, 1), "is a statement about two pictures true",
               "the web", "CC BY 4.0 (annotations)", "https://lil.nlp.cornell.edu/nlvr/"),
    DataSource("CIRR", "drake", (0,), "does a text say how one picture becomes another",
               "NLVR2 (the web)", "MIT (annotations)", "https://github.com/Cuberick-Orion/CIRR"),
    DataSource("VISION", "drake", (0, 1), "faults of industrial parts on two or four pictures",
               "industrial inspection (Roboflow)", UNKNOWN,
               "https://huggingface.co/datasets/VISION-Workshop/VISION-Datasets"),
    DataSource("MagicBrush", "drake", (0,), "which way round was a picture edited",
               f"{_COCO}, edited by a model", "CC BY 4.0",
               "https://huggingface.co/datasets/osunlp/MagicBrush"),
    DataSource("VSR", "drake", (0,), "is a statement on positions true", _COCO,
               "Apache 2.0 (annotations)",
               "https://github.com/cambridgeltl/visual-spatial-reasoning"),
    DataSource("SEED-Bench-2", "drake", (0, 1, 2),
               "instances, knowledge graphs, several moments in time", "several sets",
               "CC BY-NC 4.0", "https://huggingface.co/datasets/AILab-CVC/SEED-Bench-2"),
    DataSource("IRFL", "drake", (0, 1, 2, 3), "figures of speech and the pictures they fit",
               "the web", "CC BY 4.0", "https://huggingface.co/datasets/lampent/IRFL"),
    DataSource("Bongard-OpenWorld", "drake", (0, 1), "what do the pictures of one side share",
               "the web", UNKNOWN, "https://github.com/rujiewu/Bongard-OpenWorld"),
    DataSource("Bongard-HOI", "drake", (0, 1, 2), "what do people on the pictures of one side do",
               "sets of human actions", UNKNOWN, "https://github.com/NVlabs/Bongard-HOI"),
    DataSource("COMICS_Dialogue", "drake", (0,), "what is said in the next panel of a comic",
               "old American comics", UNKNOWN, "https://github.com/miyyer/comics"),
    DataSource("VizWiz", "drake", (0,), "why do answers about a picture differ",
               "blind people's photographs", "CC BY 4.0", "https://vizwiz.org"),
    DataSource("MIT-States", "drake", (0,), "what state is a thing in", "the web", UNKNOWN,
               "http://web.mit.edu/phillipi/Public/states_and_transformations/"),
    DataSource("Co-Instruct-DB", "drake", (0, 1, 2, 3), "quality of one, two or three pictures",
               "several sets", "MIT (annotations)",
               "https://huggingface.co/datasets/q-future/Co-Instruct-DB"),
    DataSource("TQA", "drake", (0,), "diagrams of school books", "CK-12 school books",
               "CC BY-NC 3.0", "https://prior.allenai.org/projects/tqa"),
    DataSource("dvqa", "drake", (0,), "bar charts", "drawn", UNKNOWN,
               "https://github.com/kushalkafle/DVQA_dataset"),
    DataSource("iconqa", "drake", (0, 1, 2, 3), "icons, for ages four to eight", "drawn",
               "CC BY-NC-SA 4.0", "https://iconqa.github.io", open_ended=(2, 3)),
    DataSource("WCVQA", "drake", (0, 1, 2, 3), "dishes: their names and where they are from",
               "Wikimedia Commons and others", "CC BY-SA 4.0",
               "https://huggingface.co/datasets/worldcuisines/vqa"),
    DataSource("RecipeQA_ImageCoherence", "drake", (0,), "which picture does not fit a recipe",
               "a recipe site", UNKNOWN, "https://hucvl.github.io/recipeqa/", unseen=True),
    DataSource("RecipeQA_VisualCloze", "drake", (0,), "which picture is missing in a recipe",
               "a recipe site", UNKNOWN, "https://hucvl.github.io/recipeqa/", unseen=True),
    DataSource("Mantis_contrastive_caption", "drake", (0, 1), "which picture fits a caption",
               "several sets", UNKNOWN,
               "https://huggingface.co/datasets/TIGER-Lab/Mantis-Instruct", unseen=True),
    DataSource("HQ_Edit", "drake", (0,), "how was a picture edited", "made by a model",
               "CC BY-NC 4.0", "https://huggingface.co/datasets/UCSC-VLAA/HQ-Edit", unseen=True),
    DataSource("DreamSim", "drake", (0,), "which picture is more alike", "made by a model",
               UNKNOWN, "https://dreamsim-nights.github.io", unseen=True),
    DataSource("imagecode", "drake", (0,), "which of ten frames does a text describe",
               "videos and picture sets", UNKNOWN, "https://github.com/McGill-NLP/imagecode",
               unseen=True),
]  # fmt: skip
_HFLB = [
    DataSource("GQA", "hflb", tuple(ten + one for ten in (10, 20, 30) for one in range(4)),
               "attributes, relations, objects and scenes", "Visual Genome (Flickr)", "CC BY 4.0",
               "https://cs.stanford.edu/people/dorarad/gqa/"),
    DataSource("Abstract", "hflb", (0, 1, 2, 3), "questions about clip art", "drawn", "CC BY 4.0",
               "https://visualqa.org"),
    DataSource("SNLI-VE", "hflb", (0, 1, 2, 3), "does a picture entail a sentence",
               "Flickr30k (research only)", UNKNOWN, "https://github.com/necla-ml/SNLI-VE"),
    DataSource("COCOQA", "hflb", (0, 1, 2, 3), "objects, numbers, colours and places", _COCO,
               UNKNOWN, "https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa/"),
    DataSource("NLVR2_feddat", "hflb", (0, 1, 2, 3), "is a statement about two pictures true",
               "the web", "CC BY 4.0 (annotations)", "https://lil.nlp.cornell.edu/nlvr/"),
    DataSource("VizWiz-Original", "hflb", (0, 1, 2, 3), "blind people's questions",
               "blind people's photographs", "CC BY 4.0", "https://vizwiz.org"),
    DataSource("AQUA", "hflb", (0, 1, 2, 3), "questions about paintings", "paintings (SemArt)",
               UNKNOWN, "https://github.com/noagarcia/ArtVQA"),
]  # fmt: skip
SOURCES = {source.name: source for source in (*_DRAKE, *_HFLB)}
"""Name of a data set -> what is known about it."""


def benchmark(name: str) -> Benchmark:
    """Return the benchmark of that name.

    Raises:
        DataError: there is none.
    """
    found = BENCHMARKS.get(name.lower())
    if found is None:
        raise DataError(f"unknown benchmark {name!r}.{nearest(name, BENCHMARKS)}")
    return found


def sources_of(benchmark: str) -> list[DataSource]:
    """Return the data sets of a benchmark."""
    return [source for source in SOURCES.values() if source.benchmark == benchmark]


def drake_file(root: Path, dataset: str, subset: int, split: Split) -> Path:
    """Return the path of one split of a dataset's subset in the layout of DRAKE and HFLB."""
    return root / dataset / split / f"dataset-{subset}.json"


def absent_files(source: DataSource, folder: Path) -> list[Path]:
    """Return the task files of a data set that its folder lacks."""
    splits: tuple[Split, ...] = ("train", "test")
    pairs = [(subset, split) for subset in source.subsets for split in splits]
    files = [drake_file(folder.parent, folder.name, subset, split) for subset, split in pairs]
    return [path for path in files if not path.is_file()]


def how_to_get(tasks: Sequence[str], root: Path) -> str:
    """Say in one line which data sets of tasks do not lie below ``root``, and how they are had.

    Args:
        tasks: names of tasks, such as those of a scenario. Those of no benchmark are left out, and
            those that are folders of their own.
        root: the scenario's ``data.root``.

    Returns:
        One line without a full stop; empty if nothing is missing.
    """
    known = {task: source for source in SOURCES.values() for task in source.tasks}
    own = [task for task in tasks if (root / task).is_dir() or Path(task).is_dir()]
    spelled = [_SLASH.sub("-", task) for task in tasks if task not in own]
    needed = [known[task] for task in spelled if task in known]
    lacking = [s for s in dict.fromkeys(needed) if absent_files(s, root / s.name)]
    parts = []
    for name, found in BENCHMARKS.items():
        here = {source.name for source in lacking if source.benchmark == name}
        names = ",".join(source.name for source in sources_of(name) if source.name in here)
        if names:
            place = "the working folder" if root == Path() else str(root)
            parts.append(
                f"{place} lacks {len(here)} data set{'s' * (len(here) > 1)} of {found.title}; get "
                f"what is missing with `fedmosaic data download {name} --to {root} --only {names}`"
            )
    return "; ".join(parts)
