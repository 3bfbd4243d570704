"""What holds for every test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_environment import SETTABLE, Serving, serving_in
from hypothesis import settings
from real_parsers import RELEASES, RealParser, missing, real_parser

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two vLLMs of two threads each wait for one another in busy loops: five times as slow as one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so; tests that interrupt would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The default limit of 200 ms for each example measures how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


THOROUGH = "TUNER_THOROUGH"
"""The variable with which `make test-thorough` runs the tests that are marked so."""
IS_THOROUGH = pytest.mark.skip(reason="a quarter of an hour more of real vLLM; `make test-thorough` runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Minutes first, seconds last: two processes that share the files then end at about the same time."""
    items.sort(key=lambda item: "vllm" not in item.keywords)
    if not os.environ.get(THOROUGH):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(IS_THOROUGH)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own: no store, cache or setting of the user is read or written.

    It lies beside `tmp_path`, not in it: a test may want to find its own files alone there.
    """
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    for name in ("TUNER_STORE", "TUNER_PYTHON", "TUNER_ACCEPT_PLATFORM", "TUNER_CONFIGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNER_CACHE_ROOT", str(home / "vllm-cache"))
    return home


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """An environment made of folders, where the launch decides the flag."""
    return serving_in(tmp_path / "env", SETTABLE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store will be; nothing is there yet."""
    return tmp_path / "verdicts.sqlite"


@pytest.fixture(scope="module", params=list(RELEASES))
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealParser]:
    """The parser of one release, which starts once."""
    version = str(request.param)
    if reason := missing(version):
        pytest.skip(reason)
    with real_parser(version, tmp_path_factory.mktemp(version)) as parser:
        yield parser
