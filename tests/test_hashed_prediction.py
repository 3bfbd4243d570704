"""Whether a launch would load its graphs: said only as far as it is known of the folders in the cache root."""

from dataclasses import replace
from typing import Any

import pytest
from factors_samples import NEW, OLD, changed
from hashed_samples import compiled

from tuner.compile_cache.difference import Difference, Effect
from tuner.compile_cache.graph_folders import GraphFolder, Sources
from tuner.compile_cache.graph_prediction import needs_graphs, predict_graphs, relevant
from tuner.compile_cache.prediction import Answer, Judged

WHOLE = GraphFolder("0a1b2c3d4e", True, (), Sources.SAME, None, (), True, "", 3, 1, moved=False)
UNSURE = replace(WHOLE, name="1111111111", sources=Sources.UNKNOWN)
OTHER = replace(WHOLE, name="2222222222", differences=(Difference("variable", "V", 1, 2, Effect.KEY, "Fix."),))


def judged(*folders: GraphFolder, **graphs: Any) -> Judged:
    """What is said of these folders, for a launch of which this is otherwise."""
    document = compiled(OLD, aot=False)
    document["keys"]["graphs"].update(graphs)
    return predict_graphs(document, folders)


@pytest.mark.parametrize(
    ("environment", "aot", "mode", "needed"),
    [
        (OLD, True, 3, True),
        (NEW, True, 3, False),
        (OLD, False, 3, True),
        (NEW, False, 3, True),
        (OLD, True, 2, False),
        (NEW, False, 2, False),
        (NEW, False, None, False),
    ],
)
def test_vllms_backend_needs_graphs(environment: str, aot: bool, mode: int | None, needed: bool) -> None:
    """Unless an artifact holds the compiled code, as from 0.27 on; torch's backend keeps none there."""
    assert needs_graphs(changed(compiled(environment, aot=aot), mode, "compiles", "mode")) is needed


def test_the_folder_of_the_launch_is_a_hit() -> None:
    """With unchanged sources and all graphs, whatever lies beside it."""
    prediction = judged(OTHER, WHOLE, UNSURE)
    assert prediction == Judged(Answer.HIT, "The folder of graphs is 0a1b2c3d4e, and they are there.")


def test_unknown_sources_are_unknown() -> None:
    """Never a hit; but a folder that cannot be loaded is a miss either way."""
    prediction = judged(UNSURE)
    assert prediction.answer is Answer.UNKNOWN
    assert prediction.reason.endswith("whether the files that were traced for it are unchanged is not known.")
    assert judged(replace(UNSURE, missing=("rank_0_0",))).answer is Answer.MISS


@pytest.mark.parametrize(
    ("changes", "answer", "words"),
    [
        ({"missing": ("rank_1_0",)}, Answer.MISS, "it holds nothing of rank_1_0"),
        ({"complete": False, "why": "the index is cut"}, Answer.MISS, "it is not whole: the index is cut"),
        ({"warmed": False}, Answer.MISS, "the warm-up could not load them"),
        ({"complete": None, "why": "no index"}, Answer.UNKNOWN, "whether it is whole cannot be told: no index"),
        ({"moved": True}, Answer.UNKNOWN, "its index leads to another place"),
        ({"moved": True, "warmed": True}, Answer.UNKNOWN, "its index leads to another place"),
        ({"graphs": 0}, Answer.UNKNOWN, "its index names no graphs"),
        ({"graphs": 0, "warmed": True}, Answer.HIT, "they are there"),
        ({"prefixes": 0}, Answer.UNKNOWN, "it has graphs of 0 modules, and this launch compiles 1"),
        ({"prefixes": 0, "warmed": True}, Answer.HIT, "they are there"),
        ({"sources": Sources.CHANGED}, Answer.MISS, "have changed since"),
    ],
)
def test_what_the_folder_lacks_is_told(changes: dict[str, Any], answer: Answer, words: str) -> None:
    """Each with its reason."""
    prediction = judged(replace(WHOLE, **changes))
    assert prediction.answer is answer
    assert words in prediction.reason


def test_folders_that_do_not_agree_leave_it_open() -> None:
    """Only a trace tells which of them is looked in; where they agree, it does not matter."""
    assert judged(WHOLE, replace(WHOLE, complete=False, why="x")).answer is Answer.UNKNOWN
    assert judged(WHOLE, WHOLE).answer is Answer.HIT


def test_the_nearest_folder_is_named_with_what_differs() -> None:
    """A miss, as no trace can lead there."""
    prediction = judged(OTHER)
    assert prediction.answer is Answer.MISS
    assert (
        prediction.reason == "No folder of graphs has this launch's key; the nearest, 2222222222, differs in variables."
    )
    assert judged() == Judged(Answer.MISS, "There is no folder of graphs in this cache root.")


def test_a_folder_of_which_nothing_is_known_leaves_it_open() -> None:
    """It may be the launch's, unless nothing in it can be loaded."""
    dark = replace(WHOLE, factors_known=False)
    assert judged(OTHER, dark).answer is Answer.UNKNOWN
    prediction = judged(replace(dark, complete=False))
    assert (prediction.answer, prediction.reason[-13:]) == (Answer.MISS, "is not whole.")
    assert judged(WHOLE, dark).answer is Answer.HIT


@pytest.mark.parametrize(
    ("graphs", "answer"),
    [
        ({"unknown": "A draft."}, Answer.UNKNOWN),
        ({"disabled": True}, Answer.MISS),
        ({"cache_dir": "/srv/mine"}, Answer.UNKNOWN),
    ],
)
def test_a_launch_without_a_key_is_told(graphs: dict[str, Any], answer: Answer) -> None:
    """Whatever lies there."""
    assert judged(WHOLE, **graphs).answer is answer


def test_the_folders_that_count_are_shown() -> None:
    """Those that fit, else the nearest."""
    assert relevant([OTHER, WHOLE, UNSURE]) == (WHOLE, UNSURE)
    assert relevant([OTHER, OTHER]) == (OTHER,)
    assert relevant([]) == ()
