"""The times of signed lines: the newest of each verdict, kept in the file of the store."""

from pathlib import Path

import pytest
from cache_samples import execute, sample

from cache.errors import StoreError
from cache.verdicts.signed_times import MOST_AHEAD_S, SignedTimes
from cache.verdicts.store import VerdictStore

NOW = 1_800_000_000
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store file that does not exist yet."""
    return tmp_path / "verdicts.sqlite"


def test_the_latest_time_is_kept(path: Path) -> None:
    """Of each verdict by itself; an earlier one changes nothing, and the verdicts beside them stay."""
    VerdictStore(path).put(sample())
    times = SignedTimes(path)
    assert times.newest(NOW) == {}
    times.keep({KEY: 100}, NOW)
    times.keep({KEY: 50, OTHER: 70}, NOW)
    times.keep({KEY: 200, OTHER: 60}, NOW)
    assert SignedTimes(path).newest(NOW) == {KEY: 200, OTHER: 70}
    assert list(VerdictStore(path).entries()) == [sample()]


def test_a_time_far_ahead_counts_for_nothing(path: Path) -> None:
    """It is neither kept nor in the way, whichever clock was ahead: that of the signer, or that of this machine."""
    times, far = SignedTimes(path), NOW + 2 * MOST_AHEAD_S
    times.keep({KEY: 100}, NOW)
    times.keep({KEY: far, OTHER: far}, NOW)
    assert times.newest(NOW) == {KEY: 100}
    times.keep({KEY: far}, far)
    assert times.newest(far) == {KEY: far}
    assert times.newest(NOW) == {}
    times.keep({KEY: 150}, NOW)
    assert times.newest(far) == {KEY: 150}


def test_where_nothing_is_kept_nothing_is_made(path: Path) -> None:
    """Reading makes no file, and no time writes none; a store that cannot be made is an error."""
    times = SignedTimes(path)
    assert times.newest(NOW) == {}
    times.keep({}, NOW)
    times.keep({KEY: 0}, NOW)
    assert not path.exists()
    with pytest.raises(StoreError):
        SignedTimes(Path("/proc/nowhere/store")).keep({KEY: 1}, NOW)


def test_a_damaged_time_is_passed_over(path: Path) -> None:
    """The others count, and a later one takes its place."""
    times = SignedTimes(path)
    times.keep({KEY: 100, OTHER: 100}, NOW)
    execute(path, f"UPDATE signed_times SET signed_at = 'x' WHERE digest = '{KEY}'")  # noqa: S608  a constant
    assert times.newest(NOW) == {OTHER: 100}
    times.keep({KEY: 50}, NOW)
    assert times.newest(NOW) == {KEY: 50, OTHER: 100}
