"""Examine the images of many examples: each file once, in several threads, through a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fedmosaic.data.encoded import examine
from fedmosaic.data.examined_files import ExaminedFiles, FileFacts, FileStamp
from fedmosaic.data.image import Image, StoredImage, content_key
from fedmosaic.errors import DataError
from fedmosaic.memory import no_collection

Progress = Callable[[int, int], None]
"""Take the number of images examined so far, and of all."""

_AT_ONCE = 256


def find_faults(
    images: Iterable[Image], progress: Progress = lambda done, total: None
) -> dict[Path | StoredImage, str]:
    """Return what is wrong with the image files and encoded pictures among images, by source.

    Each of the images then knows its key and size. A source in several images is examined once.
    """
    by_source: dict[Path | StoredImage, list[Image]] = {}
    with no_collection():
        for image in images:
            if isinstance(image.source, Path | StoredImage):
                by_source.setdefault(image.source, []).append(image)
    if not by_source:
        return {}
    faults = {}
    done = 0
    with ExaminedFiles() as cache, ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        with no_collection():
            stamps = {s: FileStamp.of(s) for s in by_source if isinstance(s, Path)}
            files = {path: stamp for path, stamp in stamps.items() if stamp is not None}
            known: dict[Path | StoredImage, FileFacts] = dict(cache.find(files.items()).items())
        others = [source for source in by_source if source not in known]
        done = len(known)
        for start in range(0, len(others), _AT_ONCE):
            part = others[start : start + _AT_ONCE]
            found = list(threads.map(_facts, (by_source[source][0] for source in part)))
            known.update(zip(part, found, strict=True))
            cache.add(
                (source, files[source], facts)
                for source, facts in zip(part, found, strict=True)
                if isinstance(source, Path) and source in files and facts.key
            )
            done += len(part)
            progress(done, len(by_source))
    for source, shown in by_source.items():
        facts = known[source]
        if facts.fault:
            named = f"{shown[0].name} {facts.fault}" if facts.key else facts.fault
            faults[source] = named
        for image in shown:
            if facts.key and not facts.fault:
                image.know(facts.key, facts.size)
    return faults


def _facts(image: Image) -> FileFacts:
    """Read and examine an image; one that cannot be read has no key and its whole fault."""
    try:
        content = image.read()
    except DataError as error:
        return FileFacts("", str(error), (0, 0))
    return FileFacts(content_key(content), *examine(content))
