"""Every part of the proof in both environments, each with something planted that it must refuse, and what it must not.

Each environment's cases run in one process; importing vLLM takes most of its time. Condition 2 has a file of its own.
"""

import re
from typing import Any

import pytest
from real_environment import TARGETS, answer_of

pytestmark = pytest.mark.vllm

Group = dict[str, Any]


@pytest.fixture(scope="module", params=TARGETS)
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Group]:
    """The answer of every case, in each environment."""
    environment: str = request.param
    seen: dict[str, Group] = answer_of(environment, "proof_part_cases.py", tmp_path_factory.mktemp(environment))
    return seen


# ---- guards

GUARDS = {
    "OfAttribute": r"self\.asked_number",
    "OfGlobal": r"G\['SCALE'\]",
    "OfEnclosed": r"asked_outside",
    "OfInnerEnclosed": r"G\['SCALED'\].*cell_contents",
    "OfField": r"self\.scheduler\.max_num_seqs",
    "OfAbsence": r"absent",
    "OfKey": r"self\.asked_table",
    "OfLength": r"self\.asked_list",
    "OfType": r"self\._modules\['asked_part'\]",
    "OfLateAttribute": r"self\.asked_late",
}
"""Planted condition -> the name of its guard, from the beginning to its end."""
KINDS = {"OfKey": "DICT_CONTAINS", "OfLength": "SEQUENCE_LENGTH", "OfType": "TYPE_MATCH", "OfLateAttribute": "HASATTR"}
"""The kind of those guards that ask for something else than a value."""


def listed(answers: dict[str, Group], case: str, planted: str) -> list[tuple[str, bool]]:
    """Kinds of the guards of a case on what was planted in another, and whether they name its place."""
    guards = answers["guards"][case]["guards"]
    return [(kind, is_there) for kind, name, is_there in guards if re.fullmatch(GUARDS[planted], name)]


@pytest.mark.parametrize("case", GUARDS)
def test_a_planted_guard_is_listed(answers: dict[str, Group], case: str) -> None:
    """Each condition on something outside the function is a guard, with the line that asks."""
    seen = listed(answers, case, case)
    kinds = {kind for kind, is_there in seen if is_there}
    assert kinds
    assert KINDS.get(case, "") in {"", *kinds}


@pytest.mark.parametrize("case", GUARDS)
def test_without_the_condition_there_is_no_such_guard(answers: dict[str, Group], case: str) -> None:
    """What the test above finds comes from the condition that was planted, and not with every trace."""
    assert answers["guards"]["Plain"]["filtered"]
    assert not {kind for kind, _ in listed(answers, "Plain", case)} & {kind for kind, _ in listed(answers, case, case)}


def test_a_condition_on_the_size_is_listed(answers: dict[str, Group]) -> None:
    """A guard on the number of tokens is told with its expression and its line."""
    expressions = [text for text, is_there in answers["guards"]["OfSize"]["sizes"] if is_there]
    assert any(re.fullmatch(r"Ne\(s\d+, 30\)", text) for text in expressions)
    assert not answers["guards"]["Plain"]["sizes"]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("OfVariable", "PLANTED_GUARD"),
        ("OfUnsetVariable", "PLANTED_UNSET"),
        ("OfVllmVariable", "VLLM_USE_FUSED_MOE_GROUPED_TOPK"),
    ],
)
def test_a_variable_that_traced_code_reads_is_listed(answers: dict[str, Group], case: str, name: str) -> None:
    """Also one that is not set, of which no guard tells."""
    assert name in answers["guards"][case]["variables"]
    assert name not in answers["guards"]["Plain"]["variables"]


def test_a_field_that_traced_code_reads_is_listed(answers: dict[str, Group]) -> None:
    """Two launches that differ in it then share no proof."""
    assert "scheduler_config.max_num_seqs" in answers["guards"]["OfField"]["fields"]
    assert "scheduler_config.max_num_seqs" not in answers["guards"]["Plain"]["fields"]


@pytest.mark.parametrize("part", ["whole", "outside"])
def test_where_the_hook_is_not_called_nothing_is_proved(answers: dict[str, Group], part: str) -> None:
    """Without torch's filter no guard is seen, which is not a proof that there is none."""
    assert answers["hook"][part] == []
    assert answers["hook"][f"{part}_unfiltered"] == ["guards_not_seen"]


def test_the_filter_may_be_a_function_of_vllm(answers: dict[str, Group]) -> None:
    """0.17.1 passes one of its own to `torch.compile`, other releases one of torch's."""
    assert answers["hook"]["whole_own_filter"] == []


def test_where_a_guard_is_kept_nothing_is_proved(answers: dict[str, Group]) -> None:
    """Dynamo may trace again where one does not hold."""
    assert answers["hook"]["whole_kept"] == ["guards_kept"]


# ---- condition 4

SOUND_AROUND = [
    "Around",
    "AbsentArguments",
    "FixedCount",
    "BufferedFeatures",
    "GrownFeatures",
    "PartWithAttributes",
    "EveryBatch",
    "EitherWay",
    "PositionsById",
    "ComparedNumber",
]
AROUND = {
    "NumberEntersTwice": "outer_entries",
    "NumberCounts": "outer_guard",
    "FixedTable": "outer_guard",
    "NumberByOtherName": "outer_guard",
    "NumberBelow": "outer_guard",
    "NumberByText": "outer_guard",
    "OtherPathAsksMore": "outer_guard",
    "EntersTwice": "outer_entries",
    "NeverEnters": "outer_entries",
    "TwiceForOneToken": "outer_entries",
    "CountedList": "outer_guard",
    "EmptyList": "outer_entries",
    "ListOrTuple": "outer_guard",
    "ShapeOfElement": "outer_guard",
    "RowsOfElement": "outer_entries",
    "RowsWithinBounds": "outer_guard",
    "RowsInLoop": "outer_guard",
    "RowsInCalls": "outer_guard",
    "RowsOfTwo": "outer_guard",
    "TypeOfElement": "outer_guard",
    "TypeByAnotherTensor": "outer_guard",
    "DeviceByAnotherTensor": "outer_guard",
    "RowsOfProduct": "outer_guard",
    "RowsInDictionary": "outer_guard",
    "RowsOneByOne": "outer_guard",
    "MangledSwitch": "outer_guard",
    "RegisteredLater": "outer_guard",
    "ThirdElement": "outer_guard",
    "CountedByAnotherConstructor": "outer_guard",
    "ShapeBranch": "outer_guard",
    "ShapeLoop": "outer_guard",
    "CountedPasses": "outer_guard",
    "CountedRounds": "outer_guard",
    "SwitchOfModel": "outer_guard",
    "SwitchOfClass": "outer_guard",
    "SwitchOfDictionary": "outer_guard",
    "SwitchBySetattr": "outer_guard",
    "SwitchOfModule": "outer_guard",
    "SwitchInTable": "outer_guard",
    "Enclosed": "outer_guard",
    "DefaultValue": "outer_guard",
    "ListByOtherName": "outer_guard",
    "ListInLoop": "outer_guard",
    "ListOfHelper": "outer_guard",
    "LateAttribute": "outer_guard",
    "LateKey": "outer_guard",
    "ReplacedMethod": "outer_guard",
    "ReplacedFunction": "outer_guard",
    "ReplacedPart": "outer_guard",
    "OfContext": "outer_guard",
    "OfValue": "outer_not_traced",
    "CallsOperator": "outer_calls_layer",
    "CallsLayer": "outer_calls_layer",
    "AsksCompiling": "outer_calls_layer",
    "AssumesConstant": "outer_not_traced",
    "PassesBy": "outer_passed_by",
    "OwnCall": "outer_call",
    "Hooked": "outer_call",
    "OwnForward": "outer_call",
    "ForeignOperator": "opaque_operator",
    "SkipsCompiled": "context_word",
    "StopsCompiling": "context_word",
    "OwnContext": "context_word",
    "Swallows": "outer_handler",
    "SwallowsInHelper": "outer_handler",
}
"""A model around a region -> the code of what is wrong with it."""
SOMEHOW = [
    "NumberAndList",
    "EntersInBranch",
    "OfClock",
    "OfChance",
    "OfIterator",
    "OfVariable",
    "OfVariableByIndex",
    "Suppresses",
    "ReturnsInFinally",
]
"""Models of which a release of torch says this or that."""


@pytest.mark.parametrize("case", SOUND_AROUND)
def test_what_enters_the_region_once_in_every_pass_is_accepted(answers: dict[str, Group], case: str) -> None:
    """Refusing these would cost vLLM's own models their `true`."""
    assert answers["outside"][case] == []


@pytest.mark.parametrize("case", AROUND)
def test_what_may_go_round_the_region_is_refused(answers: dict[str, Group], case: str) -> None:
    """The code around the region is plain Python in every pass; each reason has a code of its own."""
    assert AROUND[case] in answers["outside"][case]


@pytest.mark.parametrize("case", SOMEHOW)
def test_what_torch_may_not_follow_is_refused(answers: dict[str, Group], case: str) -> None:
    """Whatever a release of torch makes of it, it is not a proof."""
    assert answers["outside"][case]


def test_every_model_around_a_region_has_a_test(answers: dict[str, Group]) -> None:
    """None was written and then left out."""
    assert set(answers["outside"]) == {*SOUND_AROUND, *AROUND, *SOMEHOW}


def test_what_only_the_constructor_stores_is_accepted(answers: dict[str, Group]) -> None:
    """As vLLM's Transformers backend, which stores its layers by names that it computes."""
    sound = {case: codes for case, codes in answers["built"].items() if not case.startswith("again_")}
    assert sound == {"once": [], "once_for_a_part": [], "by_a_nested_function": [], "by_a_static_method": []}


def test_what_may_be_stored_again_is_refused(answers: dict[str, Group]) -> None:
    """The same function, where anything but the constructor may call it."""
    again = {case: codes for case, codes in answers["built"].items() if case.startswith("again_")}
    assert len(again) == 26
    assert [case for case, codes in again.items() if "outer_guard" not in codes] == []


def test_an_attribute_that_is_always_none_is_accepted(answers: dict[str, Group]) -> None:
    """As `visual_token_mask` of vLLM's Nemotron-VL: all that stores it stores None."""
    sound = {case: codes for case, codes in answers["none"].items() if not case.startswith("stored_")}
    names = ("cleared", "cleared_with_a_type", "a_key_of_arguments", "of_another_class")
    assert sound == {name: [] for name in names}


def test_an_attribute_that_may_stop_being_none_is_refused(answers: dict[str, Group]) -> None:
    """The same attribute, where anything stores another value, by whatever way of storing."""
    stored = {case: codes for case, codes in answers["none"].items() if case.startswith("stored_")}
    assert len(stored) == 20
    assert [case for case, codes in stored.items() if "outer_guard" not in codes] == []


def test_a_config_that_no_code_changes_is_accepted(answers: dict[str, Group]) -> None:
    """A pass may read a config of transformers, whose base classes store under names that they compute.

    The torch of vLLM 0.19.1 writes guards on a config with `object.__getattribute__`, and that of 0.32.0 does not.
    """
    sound = {case: codes for case, codes in answers["configs"].items() if not case.startswith("changed_")}
    assert len(sound) == 8
    assert [case for case, codes in sound.items() if codes] == []


def test_a_config_that_code_may_change_is_refused(answers: dict[str, Group]) -> None:
    """The same config, where its methods may store what a pass reads."""
    changed = {case: codes for case, codes in answers["configs"].items() if case.startswith("changed_")}
    assert len(changed) == 62
    assert [case for case, codes in changed.items() if "outer_guard" not in codes] == []


def test_an_attribute_that_is_only_read_is_accepted(answers: dict[str, Group]) -> None:
    """Code may read the dictionary of an object, and store other attributes."""
    sound = {case: codes for case, codes in answers["stored"].items() if not case.startswith("stored_")}
    assert len(sound) == 8
    assert [case for case, codes in sound.items() if codes] == []


def test_an_attribute_that_code_stores_in_any_way_is_refused(answers: dict[str, Group]) -> None:
    """By every way in which Python stores an attribute or changes a container, in this file or an imported one."""
    stored = {case: codes for case, codes in answers["stored"].items() if case.startswith("stored_")}
    assert len(stored) == 51
    assert [case for case, codes in stored.items() if "outer_guard" not in codes] == []


# ---- what functions store

STORED = {
    "attribute": ["x"],
    "deleted": ["x"],
    "added_to": ["x"],
    "setattr": ["x"],
    "object_setattr": ["x"],
    "key": ["__dict__[]", "x"],
    "global": ["x"],
    "computed": ["*"],
    "dictionary": ["*"],
    "vars": ["*"],
    "constructor": [],
    "plain_variable": [],
    "read": [],
    "given_to_reader": [],
}
CONTENTS = [
    "item",
    "append",
    "dunder",
    "renamed",
    "renamed_twice",
    "renamed_if_there",
    "by_getattr",
    "added_in_place",
    "loop",
    "items",
    "comprehension",
    "walrus",
    "given",
    "given_to_method",
    "given_elsewhere",
]


@pytest.mark.parametrize("case", STORED)
def test_what_a_function_stores_is_noted(answers: dict[str, Group], case: str) -> None:
    """A name that is not known beforehand stands for every name; what constructors store stays."""
    assert answers["stores"][case] == STORED[case]


@pytest.mark.parametrize("case", CONTENTS)
def test_a_changed_list_is_noted_by_whatever_name(answers: dict[str, Group], case: str) -> None:
    """Also through a plain variable, in a loop, or by a function that is given the list."""
    assert answers["stores"][case] == ["x[]"]


# ---- condition 1

REGIONS = {
    "one_region": ([], []),
    "region_in_region": ([], []),
    "not_decorated": (["not_decorated"], None),
    "switched_off": (["do_not_compile"], None),
    "mode_NONE": (["compilation_off"], None),
    "mode_STOCK_TORCH_COMPILE": (["compilation_off"], None),
    "two_regions": ([], ["regions"]),
    "one_of_two_switched_off": ([], ["regions"]),
    "layer_outside": ([], ["layer_outside"]),
    "own_call": ([], ["call_wrapped"]),
    "own_forward": ([], ["call_wrapped"]),
}
"""A model -> why it is not compiled, and what is wrong with its regions if it is."""
SETTINGS: dict[str, list[str]] = {
    "plain": [],
    "mode_vllm": [],
    "mode_none": ["compilation_off"],
    "mode_stock": ["compilation_off"],
    "guards_kept": ["guards_kept"],
    "elastic": ["elastic"],
    "dbo": ["dbo"],
    "ubatches": ["dbo"],
    "draft": ["draft"],
    "encoder_decoder": ["encoder_decoder"],
    "stance": ["dynamo_disabled"],
    "TORCHDYNAMO_DISABLE": ["dynamo_disabled"],
    "TORCH_COMPILE_DISABLE": ["dynamo_disabled"],
    "TORCHDYNAMO_SUPPRESS_ERRORS": ["errors_suppressed"],
    "TORCH_PLANTED": [],
    "partition": ["inductor_partition"],
    "piecewise_one": ["mixed_graphs"],
    "piecewise_one_mixed": ["mixed_graphs"],
    "piecewise_both": [],
    "piecewise_neither": [],
    "full_one": [],
}


@pytest.mark.parametrize("case", REGIONS)
def test_every_layer_lies_in_one_compiled_region(answers: dict[str, Group], case: str) -> None:
    """What vLLM compiles nowhere is told apart from what it compiles in another way than once and whole."""
    not_compiled, wrong = REGIONS[case]
    seen = answers["regions"][case]
    assert seen["not_compiled"] == not_compiled
    assert wrong is None or seen["regions"] == wrong


@pytest.mark.parametrize("case", SETTINGS)
def test_a_launch_in_which_one_trace_does_not_stand_is_refused(answers: dict[str, Group], case: str) -> None:
    """Settings of vLLM's and torch's with which some pass does not run what was traced; each of them exists."""
    assert answers["settings"][case] == SETTINGS[case]


# ---- condition 3

COUNTERS: dict[str, list[str]] = {
    "own": [],
    "around_the_end": ["counter_wraps"],
    "stays_at_the_end": ["counter_wraps"],
    "raises_otherwise": ["counter_form"],
    "around_the_end_unused": [],
}


@pytest.mark.parametrize("case", COUNTERS)
def test_a_call_too_many_must_raise(answers: dict[str, Group], case: str) -> None:
    """VLLM's own counter does; one that goes on in silence is refused wherever it is used."""
    assert answers["counter"][case] == COUNTERS[case]


def test_a_release_without_a_known_counter_is_refused(answers: dict[str, Group]) -> None:
    """Where the flag is honoured, and nothing is known of how calls are counted, nothing is proved."""
    assert answers["counter"]["no_counter"] == (["counter_form"] if answers["counter"]["is_honoured"] else None)


# ---- whose code it is


def test_files_are_known_by_who_installed_them(answers: dict[str, Group]) -> None:
    """VLLM's, torch's and Python's are trusted, a script of somebody else's is not."""
    seen = answers["origins"]
    names = ("of_vllm", "of_torch", "of_python", "at_run_time", "of_nobody")
    assert [seen[name] for name in names] == [True, True, True, True, False]
    assert seen["own"] == [True, False]
    assert seen["counted"] == [True, False, False, True]


@pytest.mark.parametrize(
    ("file", "is_trusted"),
    [
        ("vllm", True),
        ("planted_helper", True),
        ("planted_inner", True),
        ("planted_stranger", False),
        ("added", False),
        ("beside", False),
        ("gone", False),
        ("vllm_changed", False),
        ("planted_inner_changed", False),
    ],
)
def test_a_file_must_be_as_vllm_or_its_packages_installed_it(
    answers: dict[str, Group], file: str, is_trusted: bool
) -> None:
    """One changed byte, a file put beside others, and a package that vLLM does not ask for are somebody else's."""
    assert answers["origins"]["made"][file] is is_trusted


def test_a_vllm_without_a_list_of_its_files_is_not_trusted(answers: dict[str, Group]) -> None:
    """As an editable install: nothing says that its files are those of a release."""
    assert answers["origins"]["editable"] is False


def test_packages_below_the_library_folder_are_not_the_library(answers: dict[str, Group]) -> None:
    """Debian keeps packages in `dist-packages` there, and others in `site-packages`."""
    assert answers["origins"]["standard"] == {
        "json/__init__.py": True,
        "lib-dynload/_json.py": True,
        "dist-packages/strange/__init__.py": False,
        "site-packages/json/__init__.py": False,
        "strange.py": False,
    }


def test_classes_that_a_launch_names_must_be_vllms(answers: dict[str, Group]) -> None:
    """A worker, an extension of it or an executor of somebody else's can do what no trace shows."""
    ours = {"none", "worker", "executor"}
    assert {name for name, is_trusted in answers["origins"]["named"].items() if is_trusted} == ours
    assert len(answers["origins"]["named"]) > len(ours)


def test_vllm_as_it_is_and_with_more_models_is_accepted(answers: dict[str, Group]) -> None:
    """A plugin that only registers models takes no model of vLLM's its `true`."""
    assert answers["patches"]["own"] == []
    assert answers["patches"]["registered"] == []
    assert answers["patches"]["afterwards"] == []


def test_whatever_is_replaced_in_vllm_is_refused(answers: dict[str, Group]) -> None:
    """Functions, classes and members of classes, plain or wrapped, or made while the program runs."""
    seen, planted = set(answers["patches"]["replaced"]), set(answers["patches"]["planted"])
    assert planted <= seen
    assert seen - planted <= {"BatchDescriptor.__call__"}  # what a class in place of another holds
    assert len(planted) > 10


# ---- what is read


def test_every_way_to_read_a_variable_is_noted(answers: dict[str, Group]) -> None:
    """Also of one that is not set, and through vLLM's own module of variables."""
    seen = answers["reads"]["variables"]
    assert {name: entry["variables"] for name, entry in seen.items()} == {name: [name] for name in seen}
    assert not [name for name, entry in seen.items() if entry["listed"] or not entry["restored"]]


def test_a_search_for_programs_counts_unless_a_package_alone_does_it(answers: dict[str, Group]) -> None:
    """Where compilers lie differs from machine to machine, and torch looks for them wherever a proof is made."""
    seen = answers["reads"]["searches"]
    assert [name for name, variables in seen.items() if not variables] == ["package", "package_for_vllm"]
    assert seen["compiler"] == ["CXX"]
    assert all(seen[name] == ["PATH"] for name in ("by_name", "by_which", "by_a_program", "for_torch"))


def test_reading_all_variables_at_once_is_noted(answers: dict[str, Group]) -> None:
    """The file that does it is named: what it makes of them is not known."""
    seen = answers["reads"]["listings"]
    assert {name: entry["listed"] for name, entry in seen.items()} == {name: ["proof_origin_cases.py"] for name in seen}


@pytest.mark.parametrize("case", ["attribute", "by_name", "of_copy", "by_dictionary", "by_vars"])
def test_every_way_to_read_a_field_is_noted(answers: dict[str, Group], case: str) -> None:
    """Two launches that differ in a field that somebody read share no proof."""
    assert "scheduler_config.max_num_seqs" in answers["reads"]["fields"][case]


def test_a_config_of_which_nothing_is_read_is_not_noted(answers: dict[str, Group]) -> None:
    """Else no two launches would share a proof. A copy alone reads nothing; reading one field is not reading all."""
    fields = answers["reads"]["fields"]
    assert (fields["nothing"], fields["of_method"]) == ([], [])
    assert fields["attribute"] == fields["of_copy"] == ["scheduler_config.max_num_seqs"]
