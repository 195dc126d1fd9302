"""Test that GGUF files which cannot be used are refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmosaic.errors import ModelError
from fedmosaic.models.load_errors import explained
from fedmosaic.models.loading import ModelOptions, load_pretrained
from fedmosaic.models.names import Source, locate

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n"
FILES = {
    "pointer": ("my.gguf", POINTER, r"only a pointer of Git LFS: run `git lfs pull`"),
    "empty": ("my.gguf", b"", r"incomplete or damaged \(it does not begin as a GGUF file\): copy"),
    "another": ("my.gguf", b"PK\x03\x04 zip", r"does not begin as a GGUF file\): copy or download"),
    "part": ("my-00001-of-00003.gguf", b"GGUF....", r"one of several parts .*llama-gguf-split"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_whole_gguf_file_is_refused(tmp_path: Path, kind: str) -> None:
    name, content, message = FILES[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"my.*gguf' .*{message}") as caught:
        load_pretrained(str(tmp_path / name), ModelOptions(device="cpu"))
    assert "\n" not in str(caught.value)


# As Transformers and the package gguf write them.
REASONS: dict[str, tuple[Exception, str]] = {
    "architecture": (
        ValueError("GGUF model with architecture bert is not supported yet."),
        r"unpacked by Transformers \(GGUF model .*bert is not supported yet\): name the Hugging",
    ),
    "cut short": (
        ValueError("cannot reshape array of size 216448 into shape (576,960)"),
        r"incomplete or damaged \(cannot reshape .*\): copy or download it",
    ),
    "package": (
        ImportError("Please install torch and gguf>=0.10.0"),
        r"needs a package that is not installed: Please install torch and gguf>=0\.10\.0$",
    ),
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_transformers_cannot_unpack_has_a_way_out(tmp_path: Path, kind: str) -> None:
    error, message = REASONS[kind]
    source = Source(str(tmp_path), "my.gguf")
    with pytest.raises(ModelError, match=message), explained("my.gguf", source):
        raise error


def test_a_folder_of_gguf_files_names_one(tmp_path: Path) -> None:
    for name in ("b-Q8_0.gguf", "a-Q4_0.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"holds no config\.json; did you mean its file a-Q4_0"):
        locate(str(tmp_path))
