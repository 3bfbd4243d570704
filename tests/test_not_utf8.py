"""A name that is not UTF-8: no text can hold it, so what is written as text refuses it."""

import os
import shutil
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, Serving, tuner

from tuner.exports.formats import Format


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in such a folder."""
    folder = tmp_path / os.fsdecode(b"mod\xffel")
    shutil.copytree(MIXTRAL, folder)
    return folder


@pytest.mark.parametrize(
    "words", [["plan", "--shell"], *(["export", "--format", form] for form in Format if form.name != "PATCH")]
)
def test_what_would_name_another_folder_is_refused(
    serving: Serving, store: Path, model: Path, words: list[str]
) -> None:
    """A sentence shows the name, and nothing is on stdout but the document of the failure."""
    command, *options = words
    answer = tuner(command, "--python", serving.python, "--store", store, *options, model, code=1)
    assert "is not UTF-8" in answer.err
    assert r"mod\udcffel" in answer.err
    assert "serve" not in answer.out


def test_such_a_model_is_served(serving: Serving, store: Path, model: Path) -> None:
    """The system takes any bytes, and so does a server's start."""
    answer = tuner("serve", "--dry-run", "--python", serving.python, "--store", store, model, code=0)
    assert r"mod\377el'" in answer.out
