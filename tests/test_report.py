"""`tuner report`: what it says of a stored verdict, in a terminal and as a page."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_environment import tuner
from msgspec.structs import replace
from report_samples import (
    HOSTILE,
    LAYERS,
    WRONG,
    content_of,
    entry_of,
    safe_report,
    store_with,
    unsafe_report,
    warm_record,
)
from reports import layers, report, scenario, whole

from rules.judge import judge
from rules.report import parse_report
from tuner.report.overview import overview
from tuner.report.page import overview_page, policy, verdict_page
from tuner.report.timeline import CallState, missing_timeline, short_labels, timeline, timelines

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def judged_timelines(data: dict[str, object]) -> list[str]:
    """The titles of the passes that are shown of a report."""
    observed = parse_report(data)
    return [line.title for line in timelines(observed, judge(observed))]


def test_a_sentence_ends_once() -> None:
    """What a probe wrote of its whole model ends with a full stop of its own."""
    part = whole(status="failed", detail="The cut model left the registered order already.")
    texts = content_of(entry_of(safe_report(whole=part))).claims.open
    ended = "The model with every layer did not run: The cut model left the registered order already."
    assert ended in texts
    assert not [text for text in texts if text.endswith("..")]


# ---- the timeline


def test_the_first_wrong_call_is_marked() -> None:
    """Calls are held against the registered ones one by one, and the first that differs is named."""
    line = timeline("x", "registered", "executed", LAYERS, WRONG)
    assert line.first_wrong == 5
    assert [call.number for call in line.calls if call.state is CallState.WRONG] == [5, 6]
    assert (line.calls[4].expected_label, line.calls[4].actual_label) == ("4", "5")


def test_a_wrong_pass_stands_beside_a_right_one() -> None:
    """An unsafe verdict shows its witness, and a pass of another scenario that kept the order."""
    wrong, right = judged_timelines(unsafe_report())
    assert wrong == "Wrong pass: scenario mixed_batch"
    assert right.startswith("Right pass: ")


def test_a_pass_that_ends_early_is_right_so_far() -> None:
    """Calls behind the end of a pass are absent, and not wrong."""
    line = timeline("x", "registered", "executed", LAYERS, LAYERS[:3])
    assert line.first_wrong is None
    assert {call.state for call in line.calls[3:]} == {CallState.ABSENT}


def test_a_call_too_many_is_wrong() -> None:
    """A call behind the last registered layer has no layer that a counter could give it."""
    line = timeline("x", "registered", "executed", LAYERS[:2], [*LAYERS[:2], LAYERS[0]])
    assert line.first_wrong == 3
    assert line.calls[2].expected_label == "-"


def test_the_part_of_a_long_pass_around_the_first_wrong_call_is_shown() -> None:
    """A pass of 2000 calls is cut, and what is left out is counted."""
    names = layers(2000)
    line = timeline("x", "registered", "executed", names, [*names[:1500], names[0], *names[1501:]])
    numbers = [call.number for call in line.calls]
    assert 1501 in numbers
    assert len(numbers) == 256
    assert line.skipped + len(numbers) + line.more == 2000


def test_passes_that_were_counted_prove_no_order() -> None:
    """Where the counter itself resolved the calls, no pass is shown as a right one."""
    observed = parse_report(safe_report(observation_method="counted"))
    assert timelines(observed, judge(observed)) == ()
    assert "hides the order" in missing_timeline(observed, judge(observed))


def test_a_model_without_moe_layers_has_no_timeline() -> None:
    """That there is nothing to show is said, and why."""
    observed = parse_report(report([]))
    assert timelines(observed, judge(observed)) == ()
    assert "no MoE layer" in missing_timeline(observed, judge(observed))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["model.layers.0.mlp", "model.layers.12.mlp"], ["0", "12"]),
        (["model.experts"], ["experts"]),
        (["m.0.text_experts", "m.0.vision_experts", "m.1.text_experts"], ["0.tex", "0.vis", "1.tex"]),
        (["m.layers.3.experts", "mtp.0.experts"], ["m.lay.3", "mtp.0"]),
        (["m.aaaaaaaab", "m.aaaaaaaac"], ["#1", "#2"]),
    ],
)
def test_labels_are_the_words_that_tell_layers_apart(names: list[str], labels: list[str]) -> None:
    """No two layers have one label, and each label fits a cell."""
    assert list(short_labels(names).values()) == labels


# ---- what is said


def test_the_decision_is_one_sentence() -> None:
    """The value that is written comes first, and why."""
    assert content_of(entry_of(unsafe_report())).decision.sentence.startswith("Write fast_moe_cold_start=false: ")
    assert content_of(entry_of(safe_report())).decision.sentence.startswith("Write fast_moe_cold_start=true: ")
    inert = content_of(
        entry_of(safe_report(flag={"field": "field", "effective_when_true": False, "counter_ran": False}))
    )
    assert inert.decision.sentence.startswith("Nothing to write: ")


def test_a_verdict_of_another_release_of_the_tool_decides_nothing_here() -> None:
    """The page says that it is not used, and that the model is to be probed again."""
    holds = content_of(entry_of(safe_report(), worker="0" * 64)).decision.holds
    assert any("This release does not use it" in text for text in holds)
    assert not any("does not use it" in text for text in content_of(entry_of(safe_report())).decision.holds)


def test_a_proof_of_another_release_of_the_tool_writes_no_true() -> None:
    """A trace that another launch worker made is not taken for one of this release."""
    data = safe_report()
    data["proofs"][0]["worker"] = "0" * 64
    assert content_of(entry_of(data)).decision.written == "fast_moe_cold_start=false"


def test_each_condition_is_met_or_not_or_open() -> None:
    """A condition counts as met in a proved launch alone; what speaks against one has its file and line."""
    failed, proved = content_of(entry_of(unsafe_report())).launches
    assert [str(condition.state) for condition in failed.conditions] == ["open", "open", "open", "open", "not met"]
    assert failed.conditions[4].faults[0].place == "vllm/model_executor/models/mixtral.py:211"
    assert {str(condition.state) for condition in proved.conditions} == {"met"}
    assert proved.launch == "--tensor-parallel-size 2"


def test_engines_have_distance_noise_and_threshold() -> None:
    """The engine with the flag on is wrong, by the part of the distance that counts."""
    (view,) = content_of(entry_of(unsafe_report())).ladders
    arms = {arm.name: arm for arm in view.arms}
    assert (arms["flag_on"].word, arms["flag_on"].apart, arms["flag_on"].limit) == ("wrong", 1.4, 0.15)
    assert arms["flag_on"].parting.startswith("5 prompts go on with another token")
    assert (arms["eager"].apart, arms["eager"].limit, arms["eager"].noise) == (None, None, 0.0)


def test_phases_of_a_start_follow_each_other_and_fill_the_whole() -> None:
    """Each phase begins where the one before ends; what no phase explains is shown as not timed."""
    start = content_of(entry_of(unsafe_report())).starts[0]
    assert [(bar.name, bar.begin, bar.seconds) for bar in start.bars] == [
        ("import vLLM", 0.0, 10.0),
        ("build the model and load weights", 10.0, 5.0),
        ("compile", 15.0, 20.0),
        ("capture CUDA graphs", 35.0, 4.0),
        ("not timed", 39.0, 2.0),
    ]
    assert start.total == 41.0


@pytest.mark.parametrize("number", [-5.0, 1.7e308])
def test_a_number_that_is_no_duration_is_not_drawn(number: float, tmp_path: Path) -> None:
    """A bundle may hold any number: it is left out, and that is said."""
    data = unsafe_report()
    for arm in data["ladders"][0]["arms"]:
        arm["seconds"] = {"import": number, "weights": 5.0, "compile": number}
    entry = entry_of(data)
    start = content_of(entry, warm_record(cold_seconds=number)).starts[0]
    assert [(bar.name, bar.seconds) for bar in start.bars] == [("build the model and load weights", 5.0)]
    assert start.notes == ("2 numbers of it cannot be seconds of a start.",)
    page = tmp_path / "x.html"
    tuner("report", "example/model", "--store", store_with(tmp_path, entry), "--output", page, code=0)
    assert not re.search(r"\b(nan|inf)\b|\d{30}", page.read_text(encoding="utf-8").replace("a" * 12, ""))


def test_warm_ups_of_the_same_versions_alone_are_shown() -> None:
    """Cold and warm start stand below each other; a record of another vLLM is another story."""
    entry = entry_of(safe_report())
    (view,) = content_of(entry, warm_record(), warm_record(vllm="0.32.0")).warm
    assert [(bar.seconds, bar.note) for bar in view.waterfall.bars] == [
        (90.0, ""),
        (30.0, "everything came from the cache"),
    ]


def test_what_is_not_shown_is_listed() -> None:
    """An unproved launch, a scenario that failed, and what no verdict shows."""
    data = unsafe_report()
    data["scenarios"][0] = scenario(data["scenarios"][0]["name"], status="failed", detail="no kernel", passes=[])
    texts = " ".join(content_of(entry_of(data)).claims.open)
    for part in ("The plain launch: not proved", "no kernel", "Speculative decoding", "No engine was watched"):
        assert part in texts


def test_commands_repeat_probe_proofs_and_engines() -> None:
    """Each command can be pasted: the model is named, and words are quoted."""
    commands = content_of(entry_of(unsafe_report(), name="a model; x")).commands
    assert commands == (
        "tuner probe 'a model; x'",
        "tuner probe 'a model; x' -- --tensor-parallel-size 2",
        "tuner tune 'a model; x'",
    )


# ---- pages


class Outline(HTMLParser):
    """The elements of a page, and the text outside of its style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self.tags[-1:] and self.tags[-1][0] != "style":
            self.words.append(data)


def test_a_page_says_everything_in_order() -> None:
    """The decision comes first, and the commands last."""
    page = verdict_page(content_of(entry_of(unsafe_report()), warm_record()))
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "MoE calls: registered and executed",
        "Conditions of the proof",
        "Engines, compared",
        "Recorded starts",
        "What is shown, and what is not",
        "Do it again",
    ]
    assert page.index("Write fast_moe_cold_start=false") < page.index(headings[0])
    assert page.count('class="wrong first"') == 1


def test_a_section_without_data_names_the_command_that_gives_it() -> None:
    """A verdict that knows nothing but its order says how to learn the rest."""
    page = verdict_page(content_of(entry_of(report([]))))
    for command in ("tuner probe MODEL", "tuner tune MODEL", "tuner cache warm MODEL"):
        assert f"<code>{command}</code>" in page


@pytest.mark.parametrize("place", ["name", "architecture", "vllm", "layer", "detail", "file", "arguments"])
def test_names_of_others_are_text(place: str) -> None:
    """Markup in a name makes no element, a template in it is not filled in, and nothing turns the line round."""
    data = unsafe_report()
    key = {place: HOSTILE} if place in {"architecture", "vllm"} else {}
    if place == "layer":
        data = report([HOSTILE, *LAYERS], orders={"mixed_batch": [*LAYERS, HOSTILE]})
    elif place == "detail":
        data["assumptions"][0]["detail"] = HOSTILE
    elif place == "file":
        data["proofs"][0]["ranks"][0]["failures"][0]["fields"]["file"] = HOSTILE
    elif place == "arguments":
        data["proofs"][1]["arguments"] = [HOSTILE]
    entry = entry_of(data, name=HOSTILE if place == "name" else "m", **key)
    pages = [verdict_page(content_of(entry))]
    if place in {"name", "architecture", "vllm"}:
        pages.append(overview_page(overview([(entry, judge(parse_report(data)))], NOW), NOW))
    for page in pages:
        outline = Outline(page)
        assert "img" not in {tag for tag, _ in outline.tags}
        assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
        assert any("<img src=x" in text for text in outline.words)
        assert not {"\u202e", "\x1b"} & set(page)
        assert "54439" not in "".join(outline.words).replace(HOSTILE, "")


def test_a_page_asks_for_nothing_and_runs_nothing() -> None:
    """It has no script and no address of another place; its policy allows its own style sheet by digest alone."""
    outline = Outline(verdict_page(content_of(entry_of(unsafe_report()), warm_record())))
    assert not {"script", "iframe", "object", "form", "base"} & {tag for tag, _ in outline.tags}
    links = [attributes[name] for _, attributes in outline.tags for name in ("href", "src") if name in attributes]
    assert links == ["data:,"]
    assert "unsafe" not in policy()
    assert not [tag for tag, attributes in outline.tags if "style" in attributes]


def test_the_table_of_all_has_the_latest_verdict_and_its_age() -> None:
    """One cell an architecture and release; how many more there are is said, and that they differ."""
    old = replace(entry_of(safe_report(), fingerprint="b" * 64), probed_at="2026-11-01T10:00:00+00:00")
    new = entry_of(unsafe_report())
    other = entry_of(safe_report(), vllm="0.9.2")
    pairs = [(entry, judge(parse_report(entry.report))) for entry in (old, new, other)]
    table = overview(pairs, NOW)
    assert [release.vllm for release in table.releases] == ["0.9.2", "0.19.1"]
    ((_, cells),) = table.rows
    assert cells[1] is not None
    assert (cells[1].word, cells[1].days, cells[1].others, cells[1].differ) == ("conditional", 1, 1, True)


def test_an_age_is_never_negative() -> None:
    """A verdict of a clock that was ahead is of today."""
    entry = replace(entry_of(safe_report()), probed_at="2999-01-01T00:00:00+00:00")
    ((_, (cell,)),) = overview([(entry, judge(parse_report(entry.report)))], NOW).rows
    assert cell is not None
    assert cell.days == 0


# ---- the command


def test_a_terminal_shows_the_timeline_in_80_columns(tmp_path: Path) -> None:
    """The registered row stands above the executed one, and a mark below the first wrong call."""
    store = store_with(tmp_path, entry_of(unsafe_report()))
    answer = tuner("report", "example/model", "--store", store, "--cache-root", tmp_path, code=0)
    rows = answer.out.splitlines()
    assert max(map(len, rows)) <= 80
    named = "call 5 is the first wrong one: model.layers.4.mlp.experts is registered,"
    assert named in rows
    index = rows.index("registered    0  1  2  3  4  5  6  7  8  9 10 11")
    assert rows[index + 1] == "executed      0  1  2  3  5  4  6  7  8  9 10 11"
    assert rows[index + 2].index("^") == rows[index + 1].index("5")
    assert "\x1b" not in answer.out
    assert f"tuner report --store {tmp_path}/" in answer.err
    assert "--output report.html" in answer.err


def test_texts_stand_side_by_side_where_answers_part(tmp_path: Path) -> None:
    """In a terminal of 80 columns and on a page; what is markup or steers a terminal is spelt out."""
    texts = {"prompt": "one_token_1", "own": f"the the {HOSTILE}", "below": "the cat " * 30, "are_numbers": False}
    data = unsafe_report()
    flag_on = next(arm for arm in data["ladders"][0]["arms"] if arm["name"] == "flag_on")
    flag_on |= {"texts": texts, "changed": ["smaller model: num_hidden_layers 48 -> 4"]}
    store = store_with(tmp_path, entry_of(data))
    shown = tuner("report", "example/model", "--store", store, code=0).out
    assert re.search(r"^\[flag_off\] +\[flag_on\]$", shown, re.MULTILINE)
    assert re.search(r"^the cat the cat .* the the <img", shown, re.MULTILINE)
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    page = tmp_path / "x.html"
    tuner("report", "example/model", "--store", store, "--output", page, code=0)
    html = page.read_text(encoding="utf-8")
    assert "the cat the cat" in html
    assert "the the &lt;img" in html
    assert "Otherwise than in the launch: smaller model: num_hidden_layers 48 -&gt; 4." in html
    assert "otherwise than in the launch: smaller model: num_hidden_layers 48 -> 4" in shown


def test_names_in_a_terminal_move_no_cursor(tmp_path: Path) -> None:
    """A hostile name is written with escapes."""
    store = store_with(tmp_path, entry_of(safe_report(), name=HOSTILE, architecture=HOSTILE))
    for words in (["report", "--all"], ["report", HOSTILE]):
        answer = tuner(*words, "--store", store, "--cache-root", tmp_path, code=0)
        assert not {"\x1b", "\u202e"} & set(answer.out)
        assert "onerror" in answer.out


def test_long_names_are_folded(tmp_path: Path) -> None:
    """Names that are longer than a line do not make lines longer."""
    data = report([f"{'m' * 90}.{number}" for number in range(3)])
    store = store_with(tmp_path, entry_of(data, name="n" * 100, architecture="A" * 100))
    for words in (["report", "n" * 100], ["report", "--all"]):
        answer = tuner(*words, "--store", store, "--cache-root", tmp_path, code=0)
        assert max(map(len, answer.out.splitlines())) <= 80


@pytest.mark.parametrize("by", ["name", "architecture", "key"])
def test_a_verdict_is_named_by_model_architecture_or_key(by: str, tmp_path: Path) -> None:
    """Each of the three finds it, and the page is written whole."""
    entry = entry_of(unsafe_report())
    names = {"name": "example/model", "architecture": "MixtralForCausalLM", "key": entry.digest[:4]}
    page = tmp_path / "page.html"
    store = store_with(tmp_path, entry)
    answer = tuner("report", names[by], "--store", store, "--cache-root", tmp_path, "--output", page, code=0)
    assert answer.out == ""
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {file.name for file in tmp_path.iterdir()} == {"page.html", store.name}


def test_the_latest_of_several_is_shown_and_the_others_are_named(tmp_path: Path) -> None:
    """Nobody mistakes one of several verdicts for the only one."""
    entries = [entry_of(safe_report()), entry_of(safe_report(), vllm="0.18.1")]
    answer = tuner("report", "example/model", "--store", store_with(tmp_path, *entries), "--cache-root", tmp_path)
    assert answer.code == 0
    assert "1 other verdict of it" in answer.err


def test_a_name_that_nothing_is_stored_for_ends_with_3(tmp_path: Path) -> None:
    """The message names what to do next."""
    answer = tuner("report", "nobody/nothing", "--store", store_with(tmp_path, entry_of(safe_report())), code=3)
    assert "No stored verdict is called 'nobody/nothing'" in answer.err
    assert "tuner verdicts list" in answer.err


@pytest.mark.parametrize("words", [[], ["x", "--all"]])
def test_a_report_is_about_one_thing(words: list[str]) -> None:
    """Nothing named, or two things, is a faulty usage."""
    tuner("report", *words, code=2)


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """It says which file, and no half of it is left."""
    store = store_with(tmp_path, entry_of(safe_report()))
    answer = tuner("report", "--all", "--store", store, "--output", tmp_path / "gone" / "x.html", code=1)
    assert "x.html cannot be written" in answer.err
