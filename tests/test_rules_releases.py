"""What the flag can do, by release, torch, platform and what a probe detected."""

from typing import Literal

import pytest
from msgspec import convert, to_builtins

from rules.compilation_keys import unknown_keys
from rules.releases import (
    RELEASES,
    Counting,
    FlagFacts,
    FlagForm,
    FlagStatus,
    Version,
    counts_drafts,
    flag_status,
    named_release,
    needs_files,
    parse_version,
    turns_off_by_itself,
)
from rules.report import FlagObservation

FIELD = FlagFacts(FlagForm.FIELD, Counting.FLAG, "2.11.0.dev")
FREE = FlagFacts(FlagForm.FIELD, Counting.FLAG, "")
ATTRIBUTE = FlagFacts(FlagForm.ATTRIBUTE, Counting.FLAG, "")
ALWAYS = FlagFacts(FlagForm.ABSENT, Counting.ALWAYS, "")
NEVER = FlagFacts(FlagForm.ABSENT, Counting.NEVER, "")


@pytest.mark.parametrize(
    ("vllm", "torch", "platform", "status"),
    [
        ("0.10.2", "2.8.0", "cuda", "absent"),
        ("0.14.1", "2.9.1", "cuda", "absent"),
        ("0.15.0", "2.9.1", "cuda", "always_on"),
        ("0.15.0", "2.10.0+cpu", "cpu", "absent"),
        ("0.15.1", "2.9.1", "rocm", "always_on"),
        ("0.15.1", "2.10.0+cpu", "cpu", "absent"),
        ("0.16.0", "2.9.1", "cuda", "settable"),
        ("0.16.0", "2.11.0", "cuda", "settable"),
        ("0.16.0", "2.10.0+cpu", "cpu", "absent"),
        ("0.16.0", "2.10.0", "tpu", "absent"),
        ("0.17.0", "2.10.0", "cuda", "settable"),
        ("0.17.0", "2.10.0+cpu", "cpu", "settable"),
        ("0.17.1", "2.10.0", "tpu", "settable"),
        ("0.19.1", "2.10.0", "xpu", "settable"),
        ("0.19.1", "2.11.0", "cuda", "inert"),
        ("0.26.0", "2.10.0", "cuda", "settable"),
        ("0.33.0", "2.14.0", "cuda", "inert"),
    ],
)
def test_the_table_gives_each_release_its_status(vllm: str, torch: str, platform: str, status: str) -> None:
    """Release, torch and platform decide the status, and the source names the release and a file."""
    flag = flag_status(vllm, torch, platform)
    assert flag.status == status
    assert flag.source.startswith("table: vLLM 0.")
    assert flag.source.endswith(".py")
    assert flag.reason.endswith(".")


def test_the_rows_are_in_order() -> None:
    """Look-ups take the row before and the row after a version, so the rows ascend; 25 releases were read."""
    versions = [parse_version(row.version) for row in RELEASES]
    releases = [version.release for version in versions if version is not None]
    assert len(releases) == 25
    assert releases == sorted(set(releases))


@pytest.mark.parametrize(
    ("torch", "status"),
    [
        ("2.10.0", "settable"),
        ("2.10.1.dev20260101", "settable"),
        ("2.10.0+cu129", "settable"),
        ("2.11.0.dev20260101+cu130", "inert"),
        ("2.11.0a0+git0123abc", "inert"),
        ("2.11.0rc1", "inert"),
        ("2.13.0+cu130", "inert"),
        ("3.0", "inert"),
    ],
)
def test_every_build_of_torch_2_11_makes_the_flag_inert(torch: str, status: str) -> None:
    """The comparison is with 2.11.0.dev, so previews of torch 2.11 count as 2.11."""
    assert flag_status("0.19.1", torch, "cuda").status == status


@pytest.mark.parametrize(
    ("vllm", "row"),
    [
        ("0.19.2", "0.19.1"),
        ("0.19.1+cpu", "0.19.1"),
        ("0.19.1.post1", "0.19.1"),
        ("v0.19.1", "0.19.1"),
        ("0.20.1", "0.20.0"),
        ("0.20", "0.20.0"),
        ("0.22.0", "0.21.0"),
    ],
)
def test_a_release_between_the_rows_takes_the_nearest_lower_one(vllm: str, row: str) -> None:
    """A patch release without a row of its own behaves as the one before it."""
    assert flag_status(vllm, "2.11.0", "cuda").source.startswith(f"table: vLLM {row},")


@pytest.mark.parametrize(
    ("vllm", "status"),
    [
        ("0.20.0rc1", "inert"),
        ("0.19.2.dev5+gabc1234", "inert"),
        ("0.19.1rc2.dev30+gabc.cu129", "inert"),
        ("0.13.0rc1", "absent"),
        ("0.15.0rc1", "unknown"),
        ("0.15.2.dev7+gabc", "unknown"),
        ("0.16.0rc1", "unknown"),
    ],
)
def test_a_preview_is_unknown_where_the_releases_around_it_differ(vllm: str, status: str) -> None:
    """A build between two releases may have the code of either, so only what they agree on is said."""
    assert flag_status(vllm, "2.11.0", "cuda").status == status


@pytest.mark.parametrize(
    ("vllm", "torch", "platform"),
    [
        ("0.33.1.dev5+gabc", "2.14.0", "cuda"),
        ("0.34.0", "2.14.0", "cpu"),
        ("1!0.19.1", "2.10.0", "cuda"),
        ("main", "2.10.0", "cuda"),
        ("", "2.10.0", "cuda"),
        (None, "2.10.0", "cuda"),
        ("0.19.1", None, "cuda"),
        ("0.19.1", "unknown", "cuda"),
        ("0.19.1", "2.10.0", "oot:ascend"),
        ("0.14.1", "2.9.1", "oot:ascend"),
        ("0.19.1", "2.10.0", "neuron"),
        ("0.15.1", "2.9.1", "unspecified"),
        ("0.16.0", "2.9.1", "unspecified"),
    ],
)
def test_what_the_table_does_not_cover_is_unknown(vllm: str | None, torch: str | None, platform: str) -> None:
    """Nothing is assumed of a newer release, an unreadable version or a platform plugin; the reason names the probe."""
    flag = flag_status(vllm, torch, platform)
    assert flag.status is FlagStatus.UNKNOWN
    assert flag.source == ""
    assert "`tuner probe`" in flag.reason


@pytest.mark.parametrize(("vllm", "torch", "status"), [("0.19.1", "2.10.0", "settable"), ("0.32.0", "2.13.0", "inert")])
def test_a_machine_without_a_device_is_told_what_all_platforms_agree_on(vllm: str, torch: str, status: str) -> None:
    """An image looked at on a machine without its GPU still gets a status where the platform does not matter."""
    assert flag_status(vllm, torch, "unspecified").status == status


def test_reasons_say_what_an_operator_must_know_of_0_15() -> None:
    """0.15.1 turns itself off beside a draft model and 0.15.0 does not; both name the release that helps."""
    first, second = (flag_status(version, "2.9.1", "cuda").reason for version in ("0.15.0", "0.15.1"))
    assert "with speculative decoding too" in first
    assert "turns itself off with speculative decoding" in second
    assert "0.16.0" in first
    assert "0.16.0" in second


def test_only_0_15_0_counts_a_draft_model_unasked() -> None:
    """Later releases resolve a missing flag to false beside speculative decoding."""
    assert [row.version for row in RELEASES if counts_drafts(row.version)] == ["0.15.0"]
    assert not counts_drafts(None)
    assert not counts_drafts("0.34.0")


@pytest.mark.parametrize(
    ("field", "effective", "counted", "status"),
    [
        ("absent", None, None, "absent"),
        ("absent", None, False, "absent"),
        ("absent", None, True, "always_on"),
        ("attribute", None, None, "always_on"),
        ("attribute", True, True, "always_on"),
        ("attribute", True, False, "absent"),
        ("field", False, None, "inert"),
        ("field", False, False, "inert"),
        ("field", True, True, "settable"),
        ("field", True, None, "settable"),
        ("field", True, False, "absent"),
    ],
)
def test_what_the_probe_detected_beats_the_table(
    field: Literal["absent", "attribute", "field"], effective: bool | None, counted: bool | None, status: str
) -> None:
    """An observation decides on a newer release, on a platform plugin and against the table."""
    seen = FlagObservation(field, effective_when_true=effective, counter_ran=counted)
    for vllm, torch, platform in [("0.40.0", "2.16.0", "cuda"), ("0.32.0", "2.13.0", "oot:ascend"), (None, None, "")]:
        flag = flag_status(vllm, torch, platform, seen)
        assert (flag.status, flag.source) == (status, "detected by the probe")


def test_an_always_on_release_is_not_cleared_by_a_probe_that_ran_no_moe_layer() -> None:
    """A dense model's probe on 0.15.0 sees no flag and no counting, which proves nothing about MoE models."""
    seen = FlagObservation("absent", effective_when_true=None, counter_ran=None)
    assert flag_status("0.15.0", "2.9.1", "cuda", seen).status is FlagStatus.ALWAYS_ON


@pytest.mark.parametrize("counted", [None, True, False])
def test_an_observation_that_says_nothing_leaves_the_table_in_force(counted: bool | None) -> None:
    """A worker that could not look is not evidence."""
    seen = FlagObservation("field", effective_when_true=None, counter_ran=counted)
    assert flag_status("0.19.1", "2.10.0", "cuda", seen) == flag_status("0.19.1", "2.10.0", "cuda")
    assert flag_status("0.34.0", "2.14.0", "cuda", seen).status is FlagStatus.UNKNOWN


def test_versions_are_read_as_pep_440_writes_them() -> None:
    """Local parts and post-releases do not count, previews are marked, and what is not a version gives None."""
    assert parse_version(" 2.10.0+cu129\n") == Version((2, 10, 0))
    assert parse_version("0.17") == Version((0, 17, 0))
    assert parse_version("0.17.0-1") == Version((0, 17, 0))
    assert parse_version("0.20.0RC1") == Version((0, 20, 0), preview=True)
    assert parse_version("0.8.5.post1.dev2") == Version((0, 8, 5), preview=True)
    assert parse_version("v0.19.1.post1+cpu") == Version((0, 19, 1))
    assert parse_version("1.2.3.4") == Version((1, 2, 3, 4))
    for text in (
        "",
        "0.19.1+",
        "0.19.x",
        "nightly",
        "1!0.19.1",
        "\u0661.0",
        "0." + "9" * 5000,
    ):  # U+0661: a digit, not an ASCII one
        assert parse_version(text) is None


@pytest.mark.parametrize(
    "vllm", ["0.1.dev1", "0.1.dev14592+gb7332b058", "0.1.0.dev3", "0.0.0", "0.0.1.dev2", "v0.1.dev5"]
)
def test_a_version_that_any_build_may_have_names_no_release(vllm: str) -> None:
    """Nothing follows from it: neither a status, nor which keys are taken, nor what vLLM does by itself."""
    assert named_release(vllm) is None
    flag = flag_status(vllm, "2.10.0", "cuda")
    assert (flag.status, flag.takes_key) == (FlagStatus.UNKNOWN, None)
    assert "names no release" in flag.reason
    assert unknown_keys(["fast_moe_cold_start", "nonsense"], vllm) == {}
    assert needs_files(vllm, mentions_flag=None)
    assert not counts_drafts(vllm)
    assert not turns_off_by_itself(vllm, "Ernie4_5_VLMoeForConditionalGeneration")


@pytest.mark.parametrize(
    ("facts", "torch", "platform", "status", "takes_key"),
    [
        (FIELD, "2.10.0", "cuda", "settable", True),
        (FIELD, "2.10.0+cpu", "cpu", "settable", True),
        (FIELD, "2.10.0", "unspecified", "settable", True),
        (FIELD, "2.11.0a0+git", "cuda", "inert", True),
        (FIELD, None, "cuda", "unknown", True),
        (FIELD, "2.10.0", "oot:ascend", "unknown", True),
        (FREE, "2.14.0", "cuda", "settable", True),
        (FREE, None, "cuda", "settable", True),
        (ATTRIBUTE, "2.10.0", "cuda", "always_on", False),
        (ATTRIBUTE, "2.10.0", "cpu", "unknown", False),
        (ALWAYS, "2.10.0", "rocm", "always_on", False),
        (ALWAYS, "2.10.0", "unspecified", "unknown", False),
        (NEVER, "2.10.0", "cuda", "absent", False),
        (FlagFacts(FlagForm.FIELD, Counting.FLAG, None), "2.10.0", "cuda", "unknown", True),
        (FlagFacts(FlagForm.FIELD, Counting.NEVER, ""), "2.10.0", "cuda", "unknown", True),
        (FlagFacts(FlagForm.FIELD, None, ""), "2.10.0", "cuda", "unknown", True),
        (FlagFacts(FlagForm.ABSENT, None, ""), "2.10.0", "cuda", "unknown", False),
        (FlagFacts(None, Counting.FLAG, ""), "2.10.0", "cuda", "unknown", None),
    ],
)
@pytest.mark.parametrize("vllm", ["0.1.dev1+gabc", "0.0.0", "main", None, "0.34.0", "0.34.1.dev2+gabc"])
def test_files_decide_alone_where_no_release_is_named(  # noqa: PLR0917  one parameter a column
    vllm: str | None, facts: FlagFacts, torch: str | None, platform: str, status: str, takes_key: bool | None
) -> None:
    """What is not understood is unknown, whatever else the files say, and the key is told apart from the status."""
    flag = flag_status(vllm, torch, platform, facts=facts)
    assert (flag.status, flag.takes_key) == (status, takes_key)
    assert flag.source.startswith("files: vllm/") == (status != "unknown")


@pytest.mark.parametrize(
    ("vllm", "facts", "status", "source"),
    [
        ("0.15.2.dev7+gabc", ATTRIBUTE, "always_on", "table: vLLM 0.15.1, vllm/config/compilation.py"),
        ("0.15.2.dev7+gabc", FREE, "settable", "table: vLLM 0.16.0, vllm/config/vllm.py"),
        ("0.15.0rc1", ALWAYS, "always_on", "table: vLLM 0.15.0, vllm/model_executor/layers/fused_moe/layer.py"),
        ("0.15.0rc1", NEVER, "absent", "table: vLLM 0.14.1, vllm/config/compilation.py"),
        ("0.16.1.dev3", FIELD, "inert", "table: vLLM 0.17.0, vllm/config/vllm.py"),
        ("0.16.1.dev3", FlagFacts(FlagForm.FIELD, Counting.FLAG, "2.12.0"), "settable", "files: vllm/config/vllm.py"),
        ("0.19.1", FIELD, "inert", "table: vLLM 0.19.1, vllm/config/vllm.py"),
        ("0.19.1", NEVER, "absent", "files: vllm/config/compilation.py"),
        ("0.10.0", FIELD, "inert", "files: vllm/config/vllm.py"),
    ],
)
def test_files_choose_among_the_releases_that_a_version_may_stand_for(
    vllm: str, facts: FlagFacts, status: str, source: str
) -> None:
    """A preview is the release around it that has such files; a name that does not fit its files is not believed."""
    flag = flag_status(vllm, "2.11.0", "cuda", facts=facts)
    assert (flag.status, flag.source) == (status, source)


def test_a_draft_is_counted_by_files_that_ask_no_flag() -> None:
    """A build from source with the counter of 0.15.0 counts a draft's layers too; one that asks the flag does not."""
    assert counts_drafts("0.1.dev1", ALWAYS)
    assert not counts_drafts("0.1.dev1", ATTRIBUTE)
    assert not counts_drafts("0.1.dev1", FIELD)


@pytest.mark.parametrize(
    ("vllm", "mentions", "needed"),
    [
        ("0.19.1", True, False),
        ("0.19.1", None, False),
        ("0.19.1", False, True),
        ("0.14.1", False, False),
        ("0.14.1", True, True),
        ("0.19.2.dev1", True, True),
        ("0.34.0", True, True),
        ("0.1.dev1", True, True),
        ("main", None, True),
    ],
)
def test_files_are_read_where_the_version_does_not_tell(vllm: str, mentions: bool | None, needed: bool) -> None:
    """A named release whose file fits needs no more; everything else does."""
    assert needs_files(vllm, mentions) is needed


@pytest.mark.parametrize("facts", [FIELD, FREE, ATTRIBUTE, ALWAYS, NEVER, FlagFacts()])
def test_facts_survive_json(facts: FlagFacts) -> None:
    """What is written is read back, and names that a later release adds are left out."""
    assert convert({**to_builtins(facts), "later": 1}, FlagFacts) == facts


def test_what_a_probe_saw_of_the_key_beats_the_table() -> None:
    """The form that a worker saw says whether the key is taken."""
    seen = FlagObservation("attribute", effective_when_true=None, counter_ran=True)
    assert flag_status("0.19.1", "2.10.0", "cuda", seen).takes_key is False
    seen = FlagObservation("field", effective_when_true=True, counter_ran=True)
    assert flag_status("0.34.0", "2.14.0", "cuda", seen).takes_key
