"""The page on exit codes: the enum, the help, and each code of each command, which a test asserts."""

import re
from pathlib import Path

import pytest
from fake_environment import ABSENT, ERNIE, INERT, MIXTRAL, SETTABLE, sample, serving_in, tuner

from rules.errors import ErrorKind, TunerError
from tuner.errors import ExitCode, exit_code_of

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
ASSERTED = {
    (3, "probe"): "test_cli_probe.py::test_an_inconclusive_verdict_ends_with_3",
    (3, "probe --all"): "test_cli_probe_all.py::test_one_table_and_one_summary",
    (3, "tune"): "test_cli_tune.py::test_a_launch_that_could_not_be_judged_ends_with_3",
    (3, "sweep"): "test_fleet_sweep.py::test_launches_that_rest_are_shown_with_their_reasons",
    (3, "verdict"): "test_exit_codes.py::test_a_missing_verdict_ends_with_3_where_the_flag_can_do_something",
    (3, "report"): "test_report.py::test_a_name_that_nothing_is_stored_for_ends_with_3",
    (3, "plan"): "test_exit_codes.py::test_a_missing_verdict_ends_with_3_where_the_flag_can_do_something",
    (3, "export"): "test_exit_codes.py::test_a_missing_verdict_ends_with_3_where_the_flag_can_do_something",
    (3, "serve"): "test_exit_codes.py::test_a_missing_verdict_ends_with_3_where_the_flag_can_do_something",
    (3, "check"): "test_exit_codes.py::test_a_missing_verdict_of_a_manifest_counts_only_where_it_is_needed",
    (3, "apply"): "test_apply_edit.py::test_nothing_is_written_for_an_unknown_model",
    (3, "cache explain"): "test_cli_cache_explain_graphs.py::test_without_a_record_it_is_not_known",
    (3, "cache scan"): "test_cache_scan.py::test_what_cannot_be_read_is_not_called_clean",
    (3, "verdicts show"): "test_exit_codes.py::test_a_key_that_no_verdict_has_ends_with_3",
    (3, "verdicts forget"): "test_exit_codes.py::test_a_key_that_no_verdict_has_ends_with_3",
    (3, "verdicts export"): "test_exit_codes.py::test_a_key_that_no_verdict_has_ends_with_3",
    (4, "probe"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "tune"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "verdict"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "plan"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "export"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "serve"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "cache warm"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "cache explain"): "test_exit_codes.py::test_a_launch_that_no_configuration_makes_safe_ends_with_4",
    (4, "check"): "test_check_findings.py::test_a_release_that_nothing_can_help",
    (5, "tune"): "test_cli_tune.py::test_a_launch_that_is_wrong_ends_with_5_and_its_plan_is_right",
    (5, "check"): "test_check_cli.py::test_text_is_one_line_a_finding",
    (5, "apply"): "test_apply_edit.py::test_an_unsafe_value_of_the_users_changes_with_override_alone",
    (5, "confirm"): "test_confirm_cli.py::test_the_exit_code_says_what_came_of_it",
    (6, "cache warm"): "test_cache_warm.py::test_an_entry_that_vllm_cannot_load_ends_with_6",
    (6, "cache explain"): "test_cli_cache_explain.py::test_an_empty_cache_is_a_miss",
    (7, "cache warm"): "test_cache_warm.py::test_a_log_that_says_nothing_ends_with_7",
    (7, "report"): "test_report_log.py::test_a_log_without_a_phase_ends_with_7",
    (7, "confirm"): "test_confirm_cli.py::test_the_exit_code_says_what_came_of_it",
}
"""Code and command -> the test that asserts it, for the codes that not every command gives."""


def test_the_page_is_that_of_the_enum() -> None:
    """The first table has one row for each code."""
    codes = re.findall(r"^\| (\d+) \| [^`|]+ \|$", PAGE, re.MULTILINE)
    assert [int(code) for code in codes] == list(ExitCode)


def test_the_page_says_which_command_gives_which_code() -> None:
    """The second table has one row for each code and command, and no other."""
    rows = re.findall(r"^\| (\d) \| `tuner ([a-z -]+)` \| .+ \|$", PAGE, re.MULTILINE)
    assert [(int(code), command) for code, command in rows] == list(ASSERTED)


@pytest.mark.parametrize("test", sorted(set(ASSERTED.values())))
def test_each_code_of_each_command_is_asserted(test: str) -> None:
    """The test that is named is there, and names the codes that it stands for."""
    file, _, name = test.partition("::")
    chunks = (TESTS / file).read_text(encoding="utf-8").split("\n\n\n")
    (body,) = [chunk for chunk in chunks if f"def {name}(" in chunk]
    for code in {code for (code, _), asserting in ASSERTED.items() if asserting == test}:
        assert re.search(rf"(code=|code == |ends_with_|root, ){code}\b|, {code}, ", body), code


def test_the_help_lists_the_codes() -> None:
    """The help of the whole tool ends with them, in lines of at most 80 columns."""
    out = tuner("--help", code=0).out
    codes = re.findall(r"^ +(\d+) +\S", out, re.MULTILINE)
    assert [int(code) for code in codes] == list(ExitCode)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("kind", ErrorKind)
def test_the_kind_of_a_failure_decides_how_the_command_ends(kind: ErrorKind) -> None:
    """With 2, 3 or 1."""
    codes = {ErrorKind.USAGE: 2, ErrorKind.NO_VERDICT: 3}
    assert exit_code_of(TunerError("It failed.", kind=kind)) == codes.get(kind, 1)


@pytest.mark.parametrize(
    "command",
    ["verdict", "plan", "export", "serve --dry-run --on-missing fail", "plan --fail-on-unknown"],
)
@pytest.mark.parametrize("versions", [SETTABLE, INERT, ABSENT], ids=["settable", "inert", "absent"])
def test_a_missing_verdict_ends_with_3_where_the_flag_can_do_something(
    tmp_path: Path, command: str, versions: dict[str, str]
) -> None:
    """Where this vLLM does nothing with the flag there is nothing to do, and the command ends with 0."""
    python = serving_in(tmp_path / "serving", versions).python
    store = tmp_path / "verdicts.sqlite"
    tuner(*command.split(), "--python", python, "--store", store, MIXTRAL, code=3 if versions is SETTABLE else 0)


@pytest.mark.parametrize("versions", [SETTABLE, INERT], ids=["settable", "inert"])
def test_a_missing_verdict_of_a_manifest_counts_only_where_it_is_needed(
    tmp_path: Path, versions: dict[str, str]
) -> None:
    """`tuner check --fail-on-unknown` ends with 3, and with 0 where the flag is inert."""
    python = serving_in(tmp_path / "serving", versions).python
    described = tmp_path / "environment.json"
    described.write_text(tuner("env", "--python", python, "--json", code=0).out, encoding="utf-8")
    script = tmp_path / "start.sh"
    script.write_text(f"vllm serve {MIXTRAL}\n", encoding="utf-8")
    where = ("--environment", described)
    tuner("check", "--fail-on-unknown", *where, script, code=3 if versions is SETTABLE else 0)


@pytest.mark.parametrize(
    "command", ["probe", "tune", "verdict", "plan", "export", "serve --dry-run", "cache warm", "cache explain"]
)
def test_a_launch_that_no_configuration_makes_safe_ends_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """VLLM 0.15.0 on a GPU counts MoE layers whatever the launch says, and the model calls them in another order."""
    monkeypatch.setattr("tuner.environment.environment.nvidia_gpus", lambda *_: ["NVIDIA H100"])
    serving = serving_in(tmp_path / "serving", {"vllm": "0.15.0", "torch": "2.9.1"})
    store = tmp_path / "verdicts.sqlite"
    absent = {"field": "absent", "effective_when_true": None, "counter_ran": None}
    serving.remember(store, ERNIE, sample(ERNIE, "flag-live") | {"flag": absent})
    monkeypatch.setattr("tuner.cli.probe_engines.prove", lambda *_: None)
    words = [*command.split(), "--python", serving.python, "--store", store, ERNIE]
    answer = tuner(*words, *(["--", "--max-model-len", "64"] if command == "probe" else []), code=4)
    assert "This launch is refused." in answer.err


@pytest.mark.parametrize("command", ["show", "forget", "export"])
def test_a_key_that_no_verdict_has_ends_with_3(tmp_path: Path, command: str) -> None:
    """Nothing is known of it."""
    answer = tuner("verdicts", command, "--store", tmp_path / "verdicts.sqlite", "12345678", code=3)
    assert "No stored verdict is called '12345678'." in answer.err
