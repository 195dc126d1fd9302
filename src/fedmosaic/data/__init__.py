"""Provide examples and tasks: one example type, readers, checks and a client's online stream."""

from fedmosaic.data.check import check, check_images
from fedmosaic.data.example import IMAGE_MARK, Example, Task, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.memory import OnlineMemory
from fedmosaic.data.reading import read_examples
from fedmosaic.data.registry import load_task, public_examples
from fedmosaic.data.stream import ClientStream
from fedmosaic.data.validation import hold_out

__all__ = [
    "IMAGE_MARK",
    "ClientStream",
    "Example",
    "Image",
    "OnlineMemory",
    "Task",
    "Turn",
    "check",
    "check_images",
    "hold_out",
    "load_task",
    "public_examples",
    "read_examples",
]
