"""Test the secret that a site draws noise from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmosaic.distributed.noise_secret import NAME, noise_secret
from fedmosaic.errors import ConfigError


def test_a_site_has_one_secret_that_only_its_owner_reads(tmp_path: Path) -> None:
    first = noise_secret(tmp_path / "site")
    assert len(first) == 32 and noise_secret(tmp_path / "site") == first
    assert noise_secret(tmp_path / "other") != first
    assert (tmp_path / "site" / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "site").iterdir()] == [NAME]


def test_a_damaged_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged: it has 5 bytes, not 32"):
        noise_secret(tmp_path)
