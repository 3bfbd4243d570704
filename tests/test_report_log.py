"""`tuner report --log`: the phases of the starts that a server's log tells."""

from pathlib import Path

import pytest
from fake_environment import tuner

from tuner.report.log_starts import log_starts
from tuner.report.starts import Waterfall
from tuner.server_log.clock import stated_time
from tuner.server_log.phases import MAX_PHASES, MAX_STARTS, read_phases

LOGS = Path(__file__).parent / "server_logs"
ARGUMENTS = "(APIServer pid=1) INFO 01-01 10:00:00 [api_utils.py:1] non-default args: {}"


def waterfalls(text: str) -> list[Waterfall]:
    """The starts of a log."""
    return log_starts(read_phases(text.splitlines())[0])


def recorded(name: str) -> list[Waterfall]:
    """The starts of a recorded log."""
    return waterfalls((LOGS / f"{name}.log").read_text(encoding="utf-8"))


def loading(process: str, seconds: float, time: str = "10:01:00") -> str:
    """The line about weights."""
    return f"({process} pid=2) INFO 01-01 {time} [default_loader.py:1] Loading weights took {seconds} seconds"


def test_a_cold_start_is_drawn_as_its_log_states_it() -> None:
    """Each phase ends at the time of its line, and parts lie within the phase that holds them."""
    (start,) = recorded("0.26.0-compiled")
    bars = {bar.name: bar for bar in start.bars}
    assert [(bar.name, bar.seconds, bar.inner) for bar in start.bars] == [
        ("imports and arguments", 34.0, False),
        ("read weights", 0.16, True),
        ("load the model", 0.597244, False),
        ("prepare the engine", 75.01, False),
        ("torch.compile in all", 30.79, True),
        ("trace with Dynamo", 8.77, True),
        ("compile graphs", 15.61, True),
        ("profile run", 1.95, True),
        ("capture CUDA graphs", 28.0, True),
    ]
    assert bars["prepare the engine"].begin + 75.01 == pytest.approx(113.0)  # 16:06:59 to 16:08:52
    assert start.notes == (
        "Compile cache: 0 graphs loaded, 1 compiled.",
        "From its first line to the one that says it listens: 113 s.",
    )


def test_a_warm_start_loads_its_graphs() -> None:
    """What came from the cache is another phase than what was compiled."""
    (start,) = recorded("0.26.0-loaded")
    names = [bar.name for bar in start.bars]
    assert "load compiled graphs" in names
    assert "compile graphs" not in names
    assert start.notes[0] == "Compile cache: 1 graph loaded, 0 compiled."


@pytest.mark.parametrize("name", ["0.19.1-true", "0.19.1-false-colour", "0.32.0-true", "0.32.0-json"])
def test_every_release_and_form_states_its_phases(name: str) -> None:
    """Coloured and JSON lines are read; stamps that do not fit the seconds are not believed."""
    (start,) = recorded(name)
    assert {"read weights", "prepare the engine"} <= {bar.name for bar in start.bars}
    if name == "0.19.1-true":
        assert start.notes[-1].startswith("The times of the lines do not fit")


def test_of_several_processes_the_slowest_is_drawn() -> None:
    """A worker that waits for the others hides nothing."""
    (start,) = waterfalls("\n".join([ARGUMENTS, loading("Worker_TP0", 5.0), loading("Worker_TP1", 9.0)]))
    assert [(bar.name, bar.begin, bar.seconds, bar.note) for bar in start.bars] == [
        ("read weights", 51.0, 9.0, "the slowest of 2 processes")
    ]


def test_each_start_of_a_log_is_drawn() -> None:
    """A container that was started again has two starts, each from its own first line."""
    again = ARGUMENTS.replace("10:00:00", "11:00:00")
    text = "\n".join([ARGUMENTS, loading("Worker", 5.0), again, loading("Worker", 2.0, "11:00:02")])
    assert [[(bar.begin, bar.seconds) for bar in start.bars] for start in waterfalls(text)] == [
        [(55.0, 5.0)],
        [(0.0, 2.0)],
    ]


def test_lines_without_a_time_are_drawn_one_behind_the_other() -> None:
    """Nothing is made up, and the page says how it was drawn."""
    lines = [
        '{"name": "vllm.v1.worker.gpu_model_runner", "message": "Model loading took 1 GiB memory and 4.0 seconds"}',
        '{"name": "vllm.v1.engine.core", "message": "init engine (profile, create kv cache, warmup model) took 6.0 s"}',
    ]
    (start,) = waterfalls("\n".join(lines))
    assert [(bar.begin, bar.seconds) for bar in start.bars] == [(0.0, 4.0), (4.0, 6.0)]
    assert start.notes[-1].startswith("The lines state no times")


def test_words_of_a_prompt_are_no_phase() -> None:
    """Only the module that measures a phase states it."""
    forged = "(APIServer pid=1) INFO 01-01 10:00:00 [logger.py:1] prompt: Loading weights took 5 seconds"
    assert read_phases([forged, forged.replace("prompt: ", ""), "Loading weights took 5 seconds"])[0] == []


def test_a_long_log_is_read_in_bounded_memory() -> None:
    """What is left out is said."""
    starts, cut = read_phases([ARGUMENTS, *[loading("Worker", 5.0)] * (MAX_PHASES + 1)])
    assert (len(starts[0].phases), starts[0].cut, cut) == (MAX_PHASES, True, False)
    starts, cut = read_phases([ARGUMENTS] * (MAX_STARTS + 1))
    assert (len(starts), cut) == (MAX_STARTS, True)


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("INFO 02-28 23:59:59 [x.py:1] a", "INFO 02-29 00:00:01 [x.py:1] a", 2.0),
        (
            "\x1b[32mINFO\x1b[0m \x1b[90m01-01 00:00:00\x1b[0m",
            "\x1b[32mINFO\x1b[0m \x1b[90m01-01 00:01:00\x1b[0m",
            60.0,
        ),
        ('{"asctime": "2026-01-01 00:00:00,250"}', '{"asctime": "2026-01-01 00:00:01,000"}', 0.75),
        ("2026-01-01T10:00:00.5Z INFO x", "2026-01-01T10:00:01.5Z INFO x", 1.0),
    ],
)
def test_times_of_each_form_are_read(first: str, second: str, seconds: float) -> None:
    """Two lines of one form are as far apart as they say."""
    begin, end = stated_time(first), stated_time(second)
    assert begin is not None
    assert end is not None
    assert end - begin == pytest.approx(seconds)


@pytest.mark.parametrize("line", ["", "INFO 13-45 10:00:00 x", "INFO 01-01 10:00", "x" * 3000 + " INFO 01-01 10:00:00"])
def test_a_line_without_a_time_has_none(line: str) -> None:
    """A date that no calendar has is not a time, and neither is one far behind the begin of a line."""
    assert stated_time(line) is None


def test_a_log_is_drawn_in_80_columns(tmp_path: Path) -> None:
    """The same starts are shown in a terminal and on a page."""
    page = tmp_path / "log.html"
    answer = tuner("report", "--log", LOGS / "0.26.0-compiled.log", code=0)
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "capture CUDA graphs" in answer.out
    tuner("report", "--log", LOGS / "0.26.0-compiled.log", "--output", page, code=0)
    assert "capture CUDA graphs" in page.read_text(encoding="utf-8")


def test_a_log_comes_from_standard_input() -> None:
    """As `kubectl logs` gives it."""
    text = (LOGS / "0.26.0-loaded.log").read_text(encoding="utf-8")
    assert "load compiled graphs" in tuner("report", "--log", "-", stdin=text, code=0).out


def test_a_log_without_a_phase_ends_with_7(tmp_path: Path) -> None:
    """It is not drawn as a start of no seconds."""
    log = tmp_path / "x.log"
    log.write_text("nothing\n", encoding="utf-8")
    answer = tuner("report", "--log", log)
    assert answer.code == 7
    assert "No line of this log states how long" in answer.err


def test_a_log_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    assert "gone.log cannot be read" in tuner("report", "--log", tmp_path / "gone.log", code=1).err
