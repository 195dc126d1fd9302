"""Format accuracies, bytes, operations and durations for people."""

from __future__ import annotations


def percent(value: float | None) -> str:
    """Format ``0.5123`` as ``51.2``, and what was not measured as a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def amount(size: float) -> str:
    """Format a number of bytes in a readable decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def count(number: int) -> str:
    """Format a large number of things: ``1.7 million``."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return str(number)


def operations(count: float) -> str:
    """Format a number of floating-point operations in a readable unit."""
    for unit in ("MFLOP", "GFLOP", "TFLOP"):
        count /= 1000 if unit != "MFLOP" else 1e6
        if count < 1000:
            break
    return f"{count:.1f} {unit}" if count else "none"


def duration(seconds: float) -> str:
    """Format seconds as ``48 s``, ``3:05`` or ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
