"""Decisions of a moment ago: given again while nothing changed, and not longer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from fake_environment import ERNIE, MIXTRAL, Serving
from service_bench import Setting, bench, launch_request

from tuner.service.recent import LIFE_S, MOST, MOST_LIFE_S, RecentAnswer, RecentAnswers


def made(number: int) -> RecentAnswer:
    """An answer that can be told from others."""
    return RecentAnswer(str(number).encode(), "proved", ())


def test_an_answer_is_given_again_until_the_store_changes_or_time_is_over() -> None:
    """Then it is made anew; another request has another answer."""
    now = [0.0]
    recent = RecentAnswers(clock=lambda: now[0])
    assert recent.answer(b"a", 1, lambda: made(1)) == made(1)
    assert recent.answer(b"a", 1, lambda: made(2)) == made(1)
    assert recent.answer(b"b", 1, lambda: made(3)) == made(3)
    assert recent.answer(b"a", 2, lambda: made(4)) == made(4)
    now[0] = MOST_LIFE_S
    assert recent.answer(b"a", 2, lambda: made(5)) == made(5)


def test_an_answer_that_ages_is_made_anew_in_the_background() -> None:
    """Who asks meanwhile gets the one before, at once; it is made once, and then it counts."""
    now, go, renewed = [0.0], Event(), Event()
    recent = RecentAnswers(clock=lambda: now[0])
    recent.answer(b"a", 1, lambda: made(1))
    now[0] = LIFE_S

    def renew() -> RecentAnswer:
        assert go.wait(20)
        renewed.set()
        return made(2)

    assert recent.answer(b"a", 1, renew) == made(1)
    assert recent.answer(b"a", 1, lambda: made(3)) == made(1)
    go.set()
    assert renewed.wait(20)
    recent._due.join()
    assert recent.answer(b"a", 1, lambda: made(4)) == made(2)


def test_a_failure_in_the_background_is_heard_by_the_next_who_asks() -> None:
    """No answer outlives it."""
    now = [0.0]
    recent = RecentAnswers(clock=lambda: now[0])
    recent.answer(b"a", 1, lambda: made(1))
    now[0] = LIFE_S

    def fail() -> RecentAnswer:
        raise ValueError("it failed")

    assert recent.answer(b"a", 1, fail) == made(1)
    recent._due.join()
    with pytest.raises(ValueError, match="it failed"):
        recent.answer(b"a", 1, fail)


def test_a_failure_is_not_remembered() -> None:
    """The next one who asks may have an answer."""

    def fail() -> RecentAnswer:
        raise ValueError("it failed")

    recent = RecentAnswers()
    with pytest.raises(ValueError, match="it failed"):
        recent.answer(b"a", 1, fail)
    assert recent.answer(b"a", 1, lambda: made(1)) == made(1)


def test_memory_is_bounded() -> None:
    """However many different questions are asked."""
    recent = RecentAnswers()
    for number in range(MOST + 10):
        recent.answer(str(number).encode(), 1, lambda: made(1))
    assert len(recent._slots) == MOST


def test_a_verdict_that_is_stored_or_forgotten_changes_the_next_answer(serving: Serving, store: Path) -> None:
    """By whichever process: no answer outlives what it rests on."""
    serving.store_of(store, ERNIE)
    service = bench(Setting(store))
    request = launch_request(serving)
    assert service.decision(request)["verdict"] is None
    entry, _ = serving.remember(store, MIXTRAL)
    assert service.decision(request)["verdict"] == service.decision(request)["verdict"] == "uniform"
    service.state.store.forget(entry.digest)
    assert service.decision(request)["verdict"] is None


def test_those_who_ask_at_once_share_one_answer() -> None:
    """It is made once, however many wait for it; another question does not wait."""
    recent, begun, go = RecentAnswers(), Event(), Event()
    count: list[int] = []

    def slow() -> RecentAnswer:
        count.append(1)
        begun.set()
        assert go.wait(20)
        return made(1)

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(recent.answer, b"a", 1, slow) for _ in range(4)]
        assert begun.wait(20)
        assert recent.answer(b"b", 1, lambda: made(2)) == made(2)
        go.set()
        assert [one.result(20) for one in waiting] == [made(1)] * 4
    assert len(count) == 1
