"""Run several commands of Flower in one process, which imports it only one time.

``python -m fedmosaic.engines.flower.commands`` reads a list of commands as JSON from its standard
input, and writes what each printed, up to the first that fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from fedmosaic.errors import LinkError

LIMIT_SECONDS = 120.0
BOX = {ord(sign): " " for sign in "╭─╮│╰╯"}  # around an error


def run_commands(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    """Run commands of Flower, one after the other.

    Args:
        commands: the arguments of each, after ``flwr``.
        environment: all variables of the process.

    Raises:
        LinkError: one has failed; the message has what it printed.
    """
    program = [sys.executable, "-m", __name__]
    given = json.dumps(commands).encode()
    try:
        done = subprocess.run(
            program,
            input=given,
            capture_output=True,
            env=dict(environment),
            timeout=LIMIT_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise LinkError(f"commands of Flower took over {LIMIT_SECONDS:.0f} s") from None
    if done.returncode:
        words = (done.stdout + done.stderr).decode(errors="replace").translate(BOX).split()
        raise LinkError(f"a command of Flower failed: {' '.join(words)[-1000:]}")


def main() -> None:
    """Run the commands on the standard input; end with 1 after the first that fails."""
    (entry,) = entry_points(group="console_scripts", name="flwr")
    command = entry.load()
    for arguments in json.loads(sys.stdin.read()):
        printed, status = io.StringIO(), 0
        sys.argv = ["flwr", *arguments]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                command()
            except SystemExit as stop:
                status = 0 if stop.code in (None, 0) else 1
            except Exception:
                status = 1
                traceback.print_exc()
        if status:
            print(f"flwr {' '.join(arguments)}: {printed.getvalue()}")
            sys.exit(1)


if __name__ == "__main__":
    main()
