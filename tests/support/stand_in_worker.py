"""Test support: a program in the place of the probe's worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tuner.probe import runner


@contextmanager
def stand_in_worker(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the program there, and give the folder for temporary files; nothing may be left in it at the end."""
    worker = folder / "moe_probe_worker"
    worker.write_text(program)
    monkeypatch.setattr(runner, "WORKER", worker)
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    yield scratch
    assert list(scratch.iterdir()) == []
