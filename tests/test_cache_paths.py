"""Where the store lies: who wins, and what happens without a home."""

import os
import pwd
from pathlib import Path

import pytest

from cache.errors import StoreError
from cache.verdicts.paths import store_path

EVERYTHING = {"TUNER_STORE": "/b/store", "XDG_DATA_HOME": "/c", "HOME": "/d"}


@pytest.mark.parametrize(
    ("override", "absent", "path"),
    [
        ("/a/store", (), "/a/store"),
        (None, (), "/b/store"),
        ("", (), "/b/store"),
        (None, ("TUNER_STORE",), "/c/vllm-moe-tuner/verdicts.sqlite"),
        (None, ("TUNER_STORE", "XDG_DATA_HOME"), "/d/.local/share/vllm-moe-tuner/verdicts.sqlite"),
    ],
)
def test_precedence(override: str | None, absent: tuple[str, ...], path: str) -> None:
    """The option beats TUNER_STORE, which beats XDG_DATA_HOME, which beats the home folder; empty is absent."""
    for empty in ({}, dict.fromkeys(absent, "")):
        environ = {name: value for name, value in EVERYTHING.items() if name not in absent} | empty
        assert store_path(override, environ) == Path(path)


def test_relative_data_home_is_ignored() -> None:
    """A relative XDG_DATA_HOME is ignored, as the specification demands."""
    assert store_path(None, {"XDG_DATA_HOME": "c", "HOME": "/d"}).is_relative_to("/d")


def test_without_home_variable() -> None:
    """Without HOME the user database says where the home folder is."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert store_path(None, {}) == Path(home, ".local/share/vllm-moe-tuner/verdicts.sqlite")


def test_without_any_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user number without an account, as in containers, is told which option to use."""
    # A fake, as a test cannot become a user that does not exist without being root.
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(StoreError) as caught:
        store_path(None, {})
    assert "--store" in caught.value.hint
    assert store_path("here", {}) == Path("here")
