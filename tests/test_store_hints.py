"""Commands to run next name the store that the user named, so that they find what the message is about."""

import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, MIXTRAL, Answer, Serving, sample, tuner
from msgspec.structs import replace

from cache.errors import StoreError
from cache.verdicts.database import connect_to_write
from cache.verdicts.place import Place
from cache.verdicts.store import VerdictStore


def stderr_of(answer: Answer) -> str:
    """What stands on stderr, unfolded."""
    return " ".join(answer.err.split())


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A store whose path a shell must have in quotes; nothing is there yet."""
    return tmp_path / "our store.sqlite"


NOTHING_STORED: dict[str, tuple[list[str], list[str]]] = {
    "no verdict of that name": (["verdicts", "show", "nobody"], ["verdicts", "list"]),
    "no report of that name": (["report", "nobody"], ["verdicts", "list"]),
    "a report of nothing": (["report"], ["verdicts", "list"]),
    "nothing to forget": (["verdicts", "forget", "nobody"], ["verdicts", "list"]),
    "nothing to export": (["verdicts", "export"], ["verdicts", "list"]),
    "an empty list": (["verdicts", "list"], ["probe", "MODEL"]),
    "an empty table": (["report", "--all"], ["probe", "MODEL"]),
}


@pytest.mark.parametrize("name", NOTHING_STORED)
def test_a_named_store_is_named_again(name: str, odd: Path) -> None:
    """By the option that the user gave; the default store needs none."""
    command, following = NOTHING_STORED[name]
    named = shlex.join(["tuner", *following, "--store", str(odd)])
    assert f"`{named}`" in stderr_of(tuner(*command, "--store", odd))
    assert f"`{shlex.join(['tuner', *following])}`" in stderr_of(tuner(*command))


def command_in(text: str, first: str) -> list[str]:
    """The words of the command between backquotes that begins so."""
    return shlex.split(text[text.index(f"`{first}") + 1 :].partition("`")[0])


def test_the_command_that_forgets_a_damaged_record_works(serving: Serving, odd: Path) -> None:
    """It is run as it is written, and the other records are found again."""
    serving.store_of(odd, MIXTRAL, ERNIE)
    with closing(connect_to_write(odd)) as database, database:
        database.execute("UPDATE verdicts SET value = 'x' WHERE key LIKE 'verdict:Mixtral%'")
    failed = tuner("verdicts", "export", "--store", odd)
    assert failed.code != 0
    words = command_in(stderr_of(failed), "tuner verdicts forget")
    assert words[-2:] == ["--store", str(odd)]
    tuner(*words[1:], code=0)
    tuner("verdicts", "export", "--store", odd, code=0)


def test_the_command_that_forgets_a_verdict_of_another_shape_works(serving: Serving, odd: Path) -> None:
    """Of a list it names no key, and of a look-up the key."""
    entry, _ = serving.remember(odd, MIXTRAL)
    VerdictStore(odd).put(replace(entry, verdict=entry.verdict | {"word": "excellent"}))
    listed = command_in(stderr_of(tuner("verdicts", "list", "--store", odd)), "tuner verdicts forget")
    assert listed == ["tuner", "verdicts", "forget", "KEY", "--store", str(odd)]
    words = command_in(stderr_of(tuner("verdicts", "show", MIXTRAL.name, "--store", odd)), "tuner verdicts forget")
    assert words == ["tuner", "verdicts", "forget", entry.digest[:12], "--store", str(odd)]
    tuner(*words[1:], code=0)
    assert list(VerdictStore(odd).entries()) == []


def test_a_report_that_cannot_be_read_names_the_store(serving: Serving, odd: Path) -> None:
    """The hint of `tuner report` removes it from there."""
    entry, _ = serving.remember(odd, MIXTRAL)
    VerdictStore(odd).put(replace(entry, report={"result": "of another format"}, rules="other"))
    words = command_in(stderr_of(tuner("report", MIXTRAL.name, "--store", odd)), "tuner verdicts forget")
    assert words[-3:] == [entry.digest[:12], "--store", str(odd)]


def test_a_bundle_that_calls_safe_what_is_unsafe_here(serving: Serving, odd: Path, tmp_path: Path) -> None:
    """The line on it names the store that keeps its verdict."""
    bundle, other = tmp_path / "b.jsonl", tmp_path / "other.sqlite"
    sources = dict.fromkeys(sample(ERNIE, "flag-live")["sources"])
    serving.remember(odd, ERNIE)
    serving.remember(other, ERNIE, sample(MIXTRAL, "flag-live") | {"sources": sources})
    tuner("verdicts", "export", "--store", other, "--output", bundle, code=0)
    answer = tuner("verdicts", "import", bundle, "--replace-local", "--store", odd)
    words = command_in(" ".join(answer.out.split()), "tuner verdicts forget")
    assert words == ["tuner", "verdicts", "forget", "KEY", "--store", str(odd)]


def test_a_digest_that_is_too_short(odd: Path) -> None:
    """Of a named store, and of another."""
    for options, named in (((), False), (("--store", str(odd)), True)):
        with pytest.raises(StoreError) as caught:
            VerdictStore(odd, named=named).find("ab")
        assert f"`{shlex.join(['tuner', 'verdicts', 'list', *options])}`" in caught.value.hint


def test_a_place_that_nobody_named_needs_no_option() -> None:
    """The default and a variable are found again by the next command."""
    words: list[Any] = ["verdicts", "list"]
    assert Place(Path("a b")).command(*words) == "tuner verdicts list"
    assert Place(Path("a b"), named=True).command(*words) == "tuner verdicts list --store 'a b'"
