"""How far answers are apart, and frozen inputs. No engine runs: answers are written as a worker sends them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladder_samples import answer, entering

from rules.answers import LONGEST_TEXT, Answers, distance, frozen_layers, noise, parting_texts, read_answers
from rules.errors import ReportError


def answers(*prompts: dict[str, Any], inputs: list[dict[str, Any]] | None = None) -> Answers:
    """The answers of an engine."""
    return read_answers({"prompts": list(prompts), "inputs": inputs or []})


def test_a_distance_is_the_mean_over_all_tokens_and_names_the_worst_prompt() -> None:
    """A prompt with more tokens weighs more in the mean."""
    apart = distance(answers(answer("a"), answer("b", 0.3)), answers(answer("a"), answer("b")))
    assert apart is not None
    assert (apart.mean, apart.worst, apart.prompt) == (pytest.approx(0.15), pytest.approx(0.3), "b")
    assert (apart.parted, apart.layer) == (0, "")


def test_tokens_are_compared_up_to_the_first_that_differs() -> None:
    """Behind it the two engines read different texts."""
    other = answer(tokens=[3, 4, 3], made=[-0.5, -0.75, -9.0])
    apart = distance(answers(answer()), answers(other))
    assert apart is not None
    assert (apart.mean, apart.parted) == (pytest.approx(0.125), 1)


@pytest.mark.parametrize(
    "other",
    [
        answers(answer("a")),
        answers(answer("a"), answer("b"), answer("c")),
        answers(answer("a"), answer("c")),
        answers(answer("a"), answer("b", tokens=[3], made=[-0.5])),
        answers(answer("a"), answer("b", given=[-1.0])),
        answers(answer("a"), answer("b", given=[])),
        answers(answer("a"), answer("b", alone=True)),
        answers(answer("a"), answer("b", given=[None, None], made=[None, None, None])),
    ],
)
def test_engines_that_did_not_answer_the_same_prompts_in_full_are_not_compared(other: Answers) -> None:
    """Fewer prompts, others, shorter answers, or none with a number: what is left may be equal by chance."""
    whole = answers(answer("a"), answer("b"))
    assert distance(whole, other) is None
    assert distance(other, whole) is None


def test_no_answer_is_no_agreement() -> None:
    """Two engines that say nothing are not compared."""
    assert distance(answers(), answers()) is None


@given(st.lists(st.sampled_from([None, -1.0, -2.0, -1e300]), min_size=3, max_size=3), st.booleans())
def test_a_number_that_is_not_finite_never_looks_like_agreement(made: list[float | None], both: bool) -> None:
    """An engine with such a number is broken, and counts as such; without any number there is no distance."""
    broken = answers(answer("a", made=made, given=[]))
    apart = distance(broken, broken if both else answers(answer("a", given=[])))
    assert broken.is_broken == (None in made)
    assert (apart is None) == (set(made) == {None})


def test_noise_is_the_distance_between_equal_prompts_of_an_engine() -> None:
    """Without any it is not known."""
    moved = noise(answers(answer("a"), answer("a_again", 0.2, repeats="a"), answer("b")))
    assert moved is not None
    assert (moved.worst, moved.prompt) == (pytest.approx(0.2), "a_again")
    assert noise(answers(answer("a"), answer("b"))) is None
    assert noise(answers(answer("a"), answer("b", repeats="gone"))) is None


# ---- what enters the experts

SOUND = [entering(f"one_token_{index}", 10.0 + index) for index in range(3)]


def frozen(own: list[dict[str, Any]], reference: list[dict[str, Any]] | None = None) -> tuple[str, ...]:
    """The frozen layers of an engine with these inputs."""
    return frozen_layers(answers(inputs=own), answers(inputs=SOUND if reference is None else reference))


def test_an_input_that_is_the_same_for_different_prompts_is_frozen() -> None:
    """The reference has a different one for each."""
    assert frozen([entering(f"one_token_{index}", 7.0) for index in range(3)]) == ("layers.1",)
    assert frozen(SOUND) == ()


def test_an_input_that_is_frozen_in_passes_of_one_token_alone_is_found() -> None:
    """The first pass reads 17 tokens and is sound; the second decodes one, from a graph of its own."""
    first = [entering(f"alone_17_{index}", 30.0 + index) for index in range(3)]
    sound = [entering(f"alone_17_{index}", 3.0 + index, number=2) for index in range(3)]
    zeros = [entering(f"alone_17_{index}", 0.0, number=2) for index in range(3)]
    assert frozen([*first, *zeros], [*first, *sound]) == ("layers.1",)
    assert frozen([*first, *sound], [*first, *sound]) == ()


@pytest.mark.parametrize(
    "own",
    [
        [],
        [entering("one_token_0", 7.0)],
        [entering(f"one_token_{index}", None) for index in range(3)],
        [entering(f"alone_17_{name}", 7.0) for name in ("0", "again")],
        [entering(f"one_token_{index}", 7.0 + index * 1e-6) for index in range(3)],
        [entering("one_token_0", 7.0), entering("alone_17_0", 7.0)],
    ],
)
def test_too_little_to_tell_is_not_frozen(own: list[dict[str, Any]]) -> None:
    """One prompt, no number, equal prompts, inputs that differ by a hair, passes of different sizes."""
    assert frozen(own) == ()


def test_inputs_that_are_equal_in_the_reference_too_are_no_fault() -> None:
    """A model may look at nothing but the position."""
    same = [entering(f"one_token_{index}", 7.0) for index in range(3)]
    assert frozen(same, same) == ()


def test_a_layer_is_frozen_in_one_process_of_several() -> None:
    """Each process has its own graphs."""
    sound = [entering(f"one_token_{index}", 1.0 + index, rank=rank) for rank in (0, 1) for index in range(3)]
    own = [{**call, "size": 5.0, "mix": 1.0} if call["rank"] == 1 else call for call in sound]
    assert frozen(own, sound) == ("layers.1",)


def test_the_first_layer_whose_input_differs_is_named() -> None:
    """By more than rounding: a thousandth of the sum."""
    calls = [entering("one_token_0", 10.0, layer=f"layers.{index}") for index in range(3)]
    moved = [
        calls[0],
        entering("one_token_0", 10.001, layer="layers.1"),
        entering("one_token_0", 11.0, layer="layers.2"),
    ]
    apart = distance(answers(answer(), inputs=calls), answers(answer(), inputs=moved))
    assert apart is not None
    assert apart.layer == "layers.2"


# ---- answers that no engine gives


@pytest.mark.parametrize(
    "prompt",
    [
        answer(tokens=[], made=[]),
        answer(made=[-0.5]),
        answer(name=""),
        answer(made=[float("nan"), 0.0, 0.0]),
        answer(made=["-0.5", 0.0, 0.0]),
        {"name": "a"},
        None,
    ],
)
def test_nonsense_is_refused(prompt: Any) -> None:
    """With a sentence, and a step that may help."""
    with pytest.raises(ReportError, match="an engine's answers are damaged"):
        read_answers({"prompts": [prompt], "inputs": []})


def test_a_prompt_that_is_answered_twice_is_refused() -> None:
    """Which answer counts is not known."""
    with pytest.raises(ReportError, match="named twice"):
        answers(answer(), answer())


def test_the_texts_are_those_of_the_prompt_furthest_apart_that_is_answered_otherwise() -> None:
    """A prompt that is further apart and goes on alike has nothing to show."""
    own = answers(
        answer("a", 0.9, text="x"), answer("b", 0.5, likeliest=[1, 2], text="left"), answer("c", likeliest=[8])
    )
    below = answers(answer("a", text="x"), answer("b", likeliest=[1, 3], text="right"), answer("c", likeliest=[9]))
    texts = parting_texts(own, below)
    assert texts is not None
    assert (texts.prompt, texts.own, texts.below, texts.are_numbers) == ("b", "left", "right", False)


def test_without_a_tokenizer_the_numbers_of_tokens_stand_for_texts() -> None:
    """Long answers are cut."""
    texts = parting_texts(answers(answer(likeliest=[70000] * 500)), answers(answer(likeliest=[1, 2])))
    assert texts is not None
    assert (texts.below, texts.are_numbers, len(texts.own)) == ("1 2", True, LONGEST_TEXT)


def test_equal_answers_have_no_texts() -> None:
    """Whatever their distance; and so has a prompt that one engine alone answered."""
    assert parting_texts(answers(answer("a", 0.9), answer("b")), answers(answer("a"))) is None
