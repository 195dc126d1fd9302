"""Answer inputs with the trained client of a run or of a site from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmosaic.api.trained_clients import trained_client
from fedmosaic.config import DataSettings
from fedmosaic.data.background import before
from fedmosaic.data.check import check_images
from fedmosaic.data.examine_images import find_faults
from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.reading.unanswered import UNKNOWN, read_inputs
from fedmosaic.errors import ConfigError, DataError
from fedmosaic.federation.prediction import OnNote, Prediction
from fedmosaic.federation.prediction import predict as predict_inputs


def predict(
    source: str | Path,
    client: str | None = None,
    prompt: str | None = None,
    *,
    images: Sequence[str | Path] = (),
    options: Sequence[str] = (),
    file: str | Path | None = None,
    view: str | None = None,
    on_note: OnNote = lambda note: None,
) -> list[Prediction]:
    """Answer inputs as a client would after the last round that is stored.

    The client's training prompts decide which of its models answers an input, as in the evaluation
    of the run, so its data must be there. Options are ranked by likelihood; without them the answer
    is generated.

    Args:
        source: a run folder; or the file of a client that took part in a federation across
            machines, at its own site.
        client: the client's name; None where a client's file says it.
        prompt: one input. Without marks ``<image>`` the images stand before it.
        images: image files of the prompt.
        options: answers to choose from, of the prompt.
        file: a data file with inputs in place of the prompt. Its items may lack answers.
        view: one of the client's models, or of the ways to choose between them, for example
            ``routed``, ``own``, ``base``, ``expert b``; None: what the client uses.
        on_note: called with a sentence about what takes time, or what is not used of the file.

    Returns:
        one answer for each input.

    Raises:
        ConfigError: unknown client or view, neither or both of prompt and file, a single option, or
            the number of marks is not that of the images.
        CheckpointError: no round is stored, the client is at a site, or the run is outdated.
        DataError: an item or image is bad; the client's training data is missing or changed.
        ModelError: a model cannot take an input.
    """
    example = _single(prompt, images, options, file)  # mistakes show before the client is loaded
    stored = trained_client(Path(source), client)
    data = stored.local.runtime.scenario.data
    examples: Sequence[Example]
    answered: Sequence[bool]
    if example is not None:
        examples, answered = [example], [False]
    else:
        examples, answered = _of_file(Path(file or ""), data, on_note)
    shown = before(examples, data.background)
    return predict_inputs(stored, shown, answered, view=view, on_note=on_note)


def _single(
    prompt: str | None,
    images: Sequence[str | Path],
    options: Sequence[str],
    file: str | Path | None,
) -> Example | None:
    """Return the input of a prompt; None where a file is given."""
    if (prompt is None) == (file is None):
        raise ConfigError("give one of prompt and file: the input, or a data file with inputs")
    if file is not None and (images or options):
        raise ConfigError(f"images and options of {file} are in its items: leave them out")
    return None if prompt is None else _example(prompt, images, options)


def _example(prompt: str, files: Sequence[str | Path], options: Sequence[str]) -> Example:
    """Return the input of a prompt."""
    if not prompt.strip():
        raise ConfigError("the prompt is empty")
    if len(options) == 1 or len(set(options)) < len(options):
        raise ConfigError(
            f"options {', '.join(map(repr, options))}: give two or more, all different"
        )
    images = [Image(Path(file)) for file in files]
    faults = find_faults(images)
    if faults:
        raise DataError(next(iter(faults.values())))
    marks = prompt.count(IMAGE_MARK)
    if marks and marks != len(images):
        raise ConfigError(
            f"the prompt has {marks} {IMAGE_MARK} marks for {len(images)} images; write one for "
            "each image, or none"
        )
    before_it = IMAGE_MARK * len(images) + "\n" if images and not marks else ""
    turns = (
        Turn("user", before_it + prompt),
        Turn("assistant", options[0] if options else UNKNOWN),
    )
    return Example("prompt", turns, tuple(images), tuple(options))


def _of_file(
    path: Path, data: DataSettings, on_note: OnNote
) -> tuple[Sequence[Example], Sequence[bool]]:
    """Return the inputs of a file, and for each whether its answer is known."""
    found = read_inputs(path, [data.root] if data.root else [])
    check_images({str(path): found.examples})
    for note in found.notes:
        on_note(note)
    return found.examples, found.answered
