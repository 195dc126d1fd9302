"""Import everything that a run needs, then fork on request; see :mod:`.processes`.

The command is ``python -m fedmosaic.federation.fork_server SOCKET MODULE``, with the number of an
open socket. The process computes no tensor, so that a fork is as good as a fresh interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from importlib import import_module
from typing import Any

from fedmosaic.federation.processes import NUMBER
from fedmosaic.late_import import quick_imports

# What is imported when the first model is loaded and adapted, and the first task is read.
PRELOADED = (
    "fedmosaic.algorithms.fedmosaic",
    "fedmosaic.miniature.benchmark.load",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.image_processing_pil_clip",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
)


def serve(requests: socket.socket) -> None:
    """Fork until the other end of the socket closes."""
    states: dict[int, int] = {}  # pipes on which the ends of processes are told, by process id
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if awake in ready:
                os.read(awake, 1024)
                _report_ends(states)
            if requests in ready and not _fork(requests, [awake, wake], states):
                return


def _fork(requests: socket.socket, own: list[int], states: dict[int, int]) -> bool:
    """Fork for one request; return whether there was one."""
    head, handles, _, _ = socket.recv_fds(requests, 8, 4)
    if len(head) < 8:
        return False
    text = b""
    while len(text) < struct.unpack("<Q", head)[0]:
        text += requests.recv(struct.unpack("<Q", head)[0] - len(text))
    request = json.loads(text)
    state = handles.pop()
    os.set_inheritable(state, False)
    pid = os.fork()
    if pid == 0:
        for handle in (*own, *states.values(), requests.detach()):
            os.close(handle)
        os._exit(_perform(request, handles))
    for handle in handles:
        os.close(handle)
    states[pid] = state
    _write(state, pid)
    return True


def _perform(request: dict[str, Any], handles: list[int]) -> int:
    """Become the process that was asked for; return its exit status."""
    status: Any = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["new_session"]:
            os.setsid()
        for number, handle in enumerate(handles):
            os.dup2(handle, number)
            os.close(handle)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        status = import_module(request["module"]).main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return status if isinstance(status, int) else int(status is not None)


def _report_ends(states: dict[int, int]) -> None:
    """Write the status of every process that has ended."""
    for pid in list(states):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            state = states.pop(pid)
            _write(state, os.waitstatus_to_exitcode(status))
            os.close(state)


def _write(state: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for this process any more
        os.write(state, NUMBER.pack(number))


def main() -> None:
    """Import, then serve the socket that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent closes the socket
    requests = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(requests.fileno(), False)
    with quick_imports():
        for module in (sys.argv[2], *PRELOADED):
            import_module(module)
        gc.freeze()  # no fork ever searches these objects, which would copy their memory
    serve(requests)


if __name__ == "__main__":
    main()
