"""Run PEFT's own tests on Co-LoRA: ``python -m tests.peft_suite [pytest options]``.

PEFT's tests come with its source distribution. That of the installed version is downloaded once
into ``.cache/peft-tests`` and never changed. The tests run in a process of their own, because they
patch PEFT and Transformers. They need the extra ``peft-suite``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import peft

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "peft-tests"


def peft_tests() -> Path:
    """Return the folder with PEFT's tests, downloaded at the first call."""
    folder = CACHE / f"peft-{peft.__version__}"
    if not (folder / "tests" / "testing_common.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(CACHE)]
        source = ["--no-binary", ":all:", f"peft=={peft.__version__}"]
        subprocess.run([*download, *source], check=True)
        with tarfile.open(CACHE / f"peft-{peft.__version__}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder / "tests"


def main(arguments: list[str]) -> int:
    environment = {
        **os.environ,
        "PEFT_TESTS": str(peft_tests()),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }
    environment.setdefault("OMP_NUM_THREADS", "1")
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(HERE / "pytest.ini"),
        "--rootdir",
        str(HERE),
    ]
    return subprocess.run([*pytest, str(HERE), *arguments], env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
