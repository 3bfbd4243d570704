"""Whether a launch would load what the cache holds: said only as far as it is known."""

from typing import Any

import pytest
from factors_samples import BOTH, NEW, OLD, changed, factors, key_of
from hashed_samples import compiled

from tuner.compile_cache.difference import Difference, Effect
from tuner.compile_cache.prediction import Answer, Judged, Key, Prediction, expected_ranks, predict, why_unloadable


def judged(
    document: dict[str, Any],
    *missing: str,
    found: list[Difference] | None = None,
    warmed: bool | None = None,
    graphs: Judged | None = None,
) -> Prediction:
    """The prediction where only these ranks lack an artifact."""
    return predict(document, [Key("model", "f", key_of(document), missing)], found, warmed, graphs)


def differing(effect: Effect) -> list[Difference]:
    """One difference with this effect."""
    return [Difference("source", "vllm/a.py", "0", "1", effect, "")]


@pytest.mark.parametrize("environment", BOTH)
def test_no_artifact_is_a_miss(environment: str) -> None:
    """The key and the rank that lack one are named."""
    prediction = judged(compiled(environment), "rank_0_0")
    assert prediction.answer is Answer.MISS
    assert prediction.reasons == (
        f"There is no artifact under the predicted key: {key_of(factors(environment))} (rank_0_0).",
    )


@pytest.mark.parametrize("environment", BOTH)
def test_an_artifact_of_vllms_backend_is_a_hit(environment: str) -> None:
    """Compared with its warm-up and found the same."""
    prediction = judged(compiled(environment), found=[])
    assert (prediction.answer, len(prediction.reasons)) == (Answer.HIT, 1)


def test_without_a_record_it_says_what_was_not_compared() -> None:
    """The key says nothing of source files."""
    prediction = judged(compiled(NEW))
    assert prediction.answer is Answer.HIT
    assert prediction.reasons[-1] == "Source files were not compared: there is no record of the warm-up."


@pytest.mark.parametrize("environment", BOTH)
def test_an_artifact_that_vllm_cannot_load_is_a_miss(environment: str) -> None:
    """On a CPU both releases store what torch compiled, and fail to load it with these very words."""
    prediction = judged(factors(environment), found=[])
    assert prediction.answer is Answer.MISS
    assert "mode 2 with the backend inductor" in prediction.reasons[0]
    assert "'function' object has no attribute 'finalize_loading'" in prediction.reasons[0]
    assert why_unloadable(factors(environment)["compiles"]) in prediction.reasons[0]


def test_what_is_not_known_to_fail_is_not_foretold() -> None:
    """VLLM's own backend, a release with another loader, and a launch without such artifacts."""
    assert why_unloadable(compiled(NEW)["compiles"]) == ""
    for name in ("loads_own_alone", "aot"):
        assert why_unloadable(changed(factors(NEW), False, "compiles", name)["compiles"]) == ""


def test_a_release_whose_loader_is_another_is_not_known() -> None:
    """What was seen in two releases is not claimed of the others."""
    assert judged(changed(factors(NEW), False, "compiles", "loads_own_alone")).answer is Answer.UNKNOWN


@pytest.mark.parametrize(
    ("effect", "answer"),
    [(Effect.LOAD, Answer.MISS), (Effect.MAYBE, Answer.UNKNOWN), (Effect.NONE, Answer.HIT), (Effect.KEY, Answer.HIT)],
)
def test_differences_count_for_artifacts_that_are_there(effect: Effect, answer: Answer) -> None:
    """What moves the key is no matter where the new key has an artifact."""
    assert judged(compiled(NEW), found=differing(effect)).answer is answer


@pytest.mark.parametrize(("warmed", "answer"), [(True, Answer.HIT), (False, Answer.MISS)])
def test_what_the_warm_up_saw_decides(warmed: bool, answer: Answer) -> None:
    """A second start that loaded the artifacts, or did not, is better evidence than any rule."""
    assert judged(factors(NEW), found=[], warmed=warmed).answer is answer


def test_without_a_key_nothing_is_claimed() -> None:
    """The reason is the worker's own."""
    document = changed(factors(NEW), {"aot": [], "parts": {}, "unknown": "A draft."}, "keys")
    assert predict(document, [], None, None, None) == Prediction(Answer.UNKNOWN, (), ("A draft.",))


@pytest.mark.parametrize("graphs", list(Answer))
def test_an_artifact_that_needs_graphs_is_as_good_as_they_are(graphs: Answer) -> None:
    """Both reasons are told."""
    prediction = judged(compiled(OLD), found=[], graphs=Judged(graphs, "So."))
    assert (prediction.answer, prediction.reasons) == (
        graphs,
        ("The artifacts are there under the predicted key.", "So."),
    )


def test_graphs_do_not_save_an_artifact() -> None:
    """A miss stays one, and what is not known stays so."""
    hit = Judged(Answer.HIT, "So.")
    assert judged(compiled(OLD), "rank_0_0", found=[], graphs=hit).answer is Answer.MISS
    assert judged(compiled(OLD), found=differing(Effect.MAYBE), graphs=hit).answer is Answer.UNKNOWN


@pytest.mark.parametrize("graphs", list(Answer))
def test_without_artifacts_the_graphs_answer(graphs: Answer) -> None:
    """As with VLLM_USE_AOT_COMPILE=0."""
    document = compiled(OLD, aot=False)
    assert predict(document, [], None, None, Judged(graphs, "So.")) == Prediction(graphs, (), ("So.",))


@pytest.mark.parametrize("aot", [True, False])
def test_graphs_do_not_answer_for_keys_that_are_not_known(aot: bool) -> None:
    """A launch that looks for artifacts under a key that cannot be told, or that reads no cache at all."""
    document = changed(compiled(OLD, aot=aot), not aot, "compiles", "disabled")
    document["keys"].update(aot=[], unknown="A draft.")
    said = predict(document, [], None, None, Judged(Answer.HIT, "So."))
    assert said.answer is (Answer.UNKNOWN if aot else Answer.MISS)


def test_a_disabled_cache_is_not_read() -> None:
    """Whatever lies there."""
    prediction = judged(changed(compiled(NEW), True, "compiles", "disabled"), found=[])
    assert prediction.answer is Answer.MISS
    assert "VLLM_DISABLE_COMPILE_CACHE" in prediction.reasons[0]


@pytest.mark.parametrize("environment", BOTH)
def test_every_rank_needs_an_artifact(environment: str) -> None:
    """One folder for each rank of the tensor-parallel group."""
    path = ("config", "parts", "parallel_config", "factors", "tensor_parallel_size")
    assert expected_ranks(factors(environment)) == ["rank_0_0"]
    assert expected_ranks(changed(factors(environment), 2, *path)) == ["rank_0_0", "rank_1_0"]
