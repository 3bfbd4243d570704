"""Compares a decision with what a server's log says of the engine that runs. Pure.

A fact is confirmed only if the log states it. A line that is missing, cut or doubled leaves its fact unsaid. One unsaid
fact leaves the whole log unconfirmed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from rules.decide import MODE_NONE
from rules.releases import FlagStatus, named_release, public_version
from tuner.confirm.expected import Written, draft_text, switches_text
from tuner.confirm.flag_cause import FlagCause, cause_text, flag_cause
from tuner.confirm.outcome import Alarm, Confirmation, Fact, FactResult
from tuner.launch.cache_root import PROOFS, name_of_proof
from tuner.server_log.engine_line import FlagValue, NoDraft, Speculative, mode_name
from tuner.server_log.log import MAX_FOLDERS, CacheUse, Engine, ServerLog, Standing, Start

UNSAID = "not said"
_KEPT_METHODS = {"ngram", "suffix", "eagle", "eagle3"}
"""Methods that vLLM never renames (vllm/config/speculative.py; read in 0.19.1 and 0.32.0)."""

_DEFAULT_PASSES = {"eliminate_noops": True, "enable_qk_norm_rope_fusion": False}
"""Compiler passes with a default of their own -> that default. vLLM prints such a pass only where it differs from it.
All other passes that a release has and resolves are always printed. Source: `PassConfig` in vllm/config/compilation.py,
0.17.0 to 0.33.0; the second pass to 0.21.0."""

_WEIGHT = (FactResult.SAME, FactResult.REPORTED, FactResult.NOT_SAID, FactResult.DIFFERS)
"""From mild to severe: of several engines the most severe result counts."""
_MOST_NAMED = 8
"""Engines that are named where they differ."""


@dataclass(frozen=True)
class _Answer:
    """What one engine of one start says of a fact."""

    effective: str
    outcome: FactResult
    line: int | None
    note: str = ""
    cause: FlagCause | None = None
    why: str = ""


_Look = Callable[[Written | None, Start, Engine], _Answer]


def confirm(log: ServerLog, written: Written | None) -> Confirmation:
    """Compare a log with a decision; without one, report what it says."""
    texts = written.texts() if written else {}
    facts = tuple(_fact(name, texts.get(name, ""), look, log, written) for name, look in _LOOKS.items())
    alarm = _alarm(log, written) if written else Alarm.NONE
    return Confirmation(written is not None, facts, log, tuple(_notes(log)), alarm)


def _fact(name: str, text: str, look: _Look, log: ServerLog, written: Written | None) -> Fact:
    """One fact over all engines: the worst outcome counts."""
    answers = _answers(look, log, written)
    worst = max((answer for _, answer in answers), key=lambda answer: _WEIGHT.index(answer.outcome))
    if len({answer.effective for _, answer in answers}) == 1:
        return Fact(name, text, worst.effective, worst.outcome, worst.line, worst.note, worst.cause, worst.why)
    effective = ", ".join(f"{answer.effective} ({who})" for who, answer in answers[:_MOST_NAMED])
    is_split = written is not None and worst.outcome is FactResult.REPORTED and name != "cache"
    outcome = FactResult.DIFFERS if is_split else worst.outcome
    note = worst.note or "the engines of this log differ"
    return Fact(name, text, effective, outcome, worst.line, note, worst.cause, worst.why)


def _answers(look: _Look, log: ServerLog, written: Written | None) -> list[tuple[str, _Answer]]:
    """What each engine says of a fact, under the engine's label."""
    answers: list[tuple[str, _Answer]] = []
    for start in log.starts:
        for engine in start.engines:
            answer = look(written, start, engine)
            if start.standing is Standing.MAYBE_OVER:
                answer = _softened(answer)
            answers.append((_label(engine, log), answer))
    # Behind the engines: of equal outcomes the first is shown.
    without_engine = [start for start in log.starts if not start.engines]
    answers += [("no engine", _unsaid(written, "the last start has no engine line"))] * len(without_engine)
    return answers or [("", _unsaid(written))]


def _softened(answer: _Answer) -> _Answer:
    """An answer of a start that a later one follows: it may be over, so it contradicts nothing."""
    if answer.outcome is not FactResult.DIFFERS:
        return answer
    note = "an earlier server of this log ran otherwise, and no line says that it ended"
    return replace(answer, outcome=FactResult.NOT_SAID, note=note)


def _label(engine: Engine, log: ServerLog) -> str:
    """What tells an engine from the others of a log."""
    name = engine.process.name or "an engine"
    same_source = [other for other in log.engines if other.source == engine.source]
    if len(same_source) < len(log.engines):
        name = engine.name or name
    is_named_twice = sum(other.name == engine.name for other in same_source) > 1
    return f"{name} of line {engine.line}" if is_named_twice else name


def _unsaid(written: Written | None, note: str = "") -> _Answer:
    return _Answer(UNSAID, FactResult.REPORTED if written is None else FactResult.NOT_SAID, None, note)


def _same_or_not(same: bool) -> FactResult:
    return FactResult.SAME if same else FactResult.DIFFERS


def _start(written: Written | None, start: Start, engine: Engine) -> _Answer:
    unsure = FactResult.REPORTED if written is None else FactResult.NOT_SAID
    if start.failed is not None:
        return _Answer("failed", unsure, start.failed, "an engine failed: nothing of it runs")
    if engine.ready is None:
        return _unsaid(written, "no line says that the engine is ready")
    effective = "ready" if start.stopped is None else "ready, then stopped"
    if written is not None and written.refused:
        return _Answer(effective, FactResult.DIFFERS, engine.ready, "the decision refused this launch")
    if start.standing is not Standing.ALONE:
        return _Answer(effective, unsure, engine.ready, "several servers may write into this log")
    if start.stranger is not None:
        return _Answer(effective, unsure, engine.ready, f"line {start.stranger} is of another server")
    outcome = FactResult.REPORTED if written is None else FactResult.SAME
    return _Answer(effective, outcome, engine.ready)


def _vllm(written: Written | None, _: Start, engine: Engine) -> _Answer:
    version = engine.config.vllm
    if version is None:
        return _unsaid(written)
    if written is None:
        return _Answer(version, FactResult.REPORTED, engine.line)
    same = public_version(written.vllm) == public_version(version)
    return _Answer(version, _same_or_not(same), engine.line)


def _model(written: Written | None, start: Start, engine: Engine) -> _Answer:
    model = engine.config.model
    if model is None:
        return _unsaid(written)
    if written is None:
        return _Answer(model, FactResult.REPORTED, engine.line)
    if written.model == model:
        return _Answer(model, FactResult.SAME, engine.line)
    if start.replaced.get(written.model) == model:
        note = "the local copy of that model, as vLLM says when offline"
        return _Answer(model, FactResult.SAME, engine.line, note)
    if _brings_own_draft(written, engine.config.speculative):
        return _Answer(model, FactResult.SAME, engine.line, "the target that the checkpoint names")
    return _Answer(model, FactResult.DIFFERS, engine.line)


def _brings_own_draft(written: Written, speculative: Speculative | NoDraft) -> bool:
    """A checkpoint in the `speculators` format is the draft, and vLLM serves the model that it names.

    See vllm/transformers_utils/config.py, maybe_override_with_speculators.
    """
    none_given = written.speculative is None
    return none_given and isinstance(speculative, Speculative) and speculative.model == written.model


def _flag(written: Written | None, start: Start, engine: Engine) -> _Answer:
    flag = engine.config.flag
    if flag is FlagValue.UNSAID:
        return _unsaid(written)
    if flag is FlagValue.ABSENT:
        is_expected = written is not None and _expected_flag(written) is not None
        outcome = FactResult.DIFFERS if is_expected else FactResult.REPORTED
        return _Answer(str(flag), outcome, engine.line, "this vLLM has no such setting")
    cause = flag_cause(engine.config, start, written)
    outcome, note = _judged(written, flag)
    return _Answer(str(flag), outcome, engine.line, note, cause, cause_text(cause, engine.config))


def _judged(written: Written | None, flag: FlagValue) -> tuple[FactResult, str]:
    """How a flag that is on or off compares with what was written, and why; the reason may be empty."""
    if written is None:
        return FactResult.REPORTED, ""
    is_on = flag is FlagValue.ON
    if is_on and _is_wrong(written):
        return FactResult.DIFFERS, f"the verdict is {written.verdict}: this server runs wrong experts"
    if is_on and _is_guess(written):
        return FactResult.NOT_SAID, "the flag is on, and nothing proves that it is safe"
    expected = _expected_flag(written)
    if expected is None:
        return FactResult.REPORTED, ""
    if is_on is expected:
        return FactResult.SAME, ""
    inert = written.status is FlagStatus.INERT
    return FactResult.DIFFERS, "the decision says that vLLM forces it to false there" if inert else ""


def _expected_flag(written: Written) -> bool | None:
    """The value that fits what was written; None if either does."""
    inert = written.status is FlagStatus.INERT
    return False if inert and written.flag is None else written.flag


def _is_wrong(written: Written) -> bool:
    """Whether a flag that is on runs wrong experts: it counts, and the verdict is unsafe."""
    counts = written.status in {FlagStatus.SETTABLE, FlagStatus.UNKNOWN, FlagStatus.INERT}
    return counts and written.verdict is not None and written.verdict.unsafe


def _is_guess(written: Written) -> bool:
    """Whether nobody knows what the flag does, nothing was written about it, and no verdict says that it is safe."""
    proved = written.verdict is not None and written.verdict.safe
    return written.status is FlagStatus.UNKNOWN and written.flag is None and not proved


def _graphs(written: Written | None, _: Start, engine: Engine) -> _Answer:
    """The CUDA graph mode. What the user asked for may be lowered by vLLM; what a decision wrote was tried as such."""
    graphs = engine.config.graphs
    launch_graphs = written.graphs if written else None
    if graphs is None:
        return _unsaid(written if launch_graphs else None)
    if launch_graphs is None:
        return _Answer(graphs, FactResult.REPORTED, engine.line)
    if graphs == launch_graphs:
        return _Answer(graphs, FactResult.SAME, engine.line)
    if written is not None and written.setting.graphs is not None:
        return _Answer(graphs, FactResult.DIFFERS, engine.line)
    return _Answer(
        graphs, FactResult.REPORTED, engine.line, f"the launch asks for {launch_graphs}, which vLLM may lower"
    )


def _passes(written: Written | None, _: Start, engine: Engine) -> _Answer:
    """The compiler passes that the decision switched; without any, how many are on."""
    printed = engine.config.passes
    switched = written.setting.passes if written else {}
    if printed is None:
        return _unsaid(written if switched else None)
    if not switched:
        return _Answer(f"{sum(printed.values())} on", FactResult.REPORTED, engine.line)
    effective: dict[str, bool] = {}
    for name in switched:
        is_on = _pass_is_on(name, engine)
        if is_on is not None:
            effective[name] = is_on
    if any(effective[name] != switched[name] for name in effective):
        return _Answer(switches_text(effective), FactResult.DIFFERS, engine.line)
    if len(effective) < len(switched):
        return _unsaid(written, "vLLM prints no pass that has the default of its class")
    return _Answer(switches_text(effective), FactResult.SAME, engine.line)


def _pass_is_on(name: str, engine: Engine) -> bool | None:
    """Whether a compiler pass is on; None if the line does not tell."""
    is_on = (engine.config.passes or {}).get(name)
    version = named_release(engine.config.vllm)
    if is_on is None and version is not None and version.release >= (0, 17):
        return _DEFAULT_PASSES.get(name)
    return is_on


def _backend(written: Written | None, _: Start, engine: Engine) -> _Answer:
    backend = engine.config.moe_backend
    chosen = written.setting.backend if written else None
    if backend is None:
        return _unsaid(written if chosen else None, "releases before 0.20 do not print it" if chosen else "")
    if chosen is None:
        return _Answer(backend, FactResult.REPORTED, engine.line)
    return _Answer(backend, _same_or_not(backend == chosen), engine.line)


def _alarm(log: ServerLog, written: Written) -> Alarm:
    """What is wrong with the servers that answer now: those that are ready and not known to have ended."""
    alarms: set[Alarm] = set()
    for start in log.starts:
        if start.has_ended or start.standing is Standing.MAYBE_OVER:
            continue
        for engine in start.engines:
            if engine.ready is not None:
                alarms.update(_alarms_of(written, start, engine))
    order = (Alarm.WRONG, Alarm.WRONG_SETTING, Alarm.UNPROVED)
    return next((alarm for alarm in order if alarm in alarms), Alarm.NONE)


def _alarms_of(written: Written, start: Start, engine: Engine) -> Iterator[Alarm]:
    """What is wrong with one engine; a decision says nothing of another model or release."""
    looks = (_model(written, start, engine), _vllm(written, start, engine))
    if all(answer.outcome is FactResult.SAME for answer in looks):
        yield _flag_alarm(written, engine)
        yield _setting_alarm(written, start, engine)


def _setting_alarm(written: Written, start: Start, engine: Engine) -> Alarm:
    """Whether an engine runs settings that were found to answer wrongly.

    It does not if it is eager, or if it has a graph mode that was found right.
    """
    setting, config = written.setting, engine.config
    is_eager = config.mode == MODE_NONE and config.graphs == "NONE"
    if not setting.is_wrong or is_eager or config.graphs in setting.right_graphs:
        return Alarm.NONE
    answers = [look(written, start, engine) for look in (_mode, _graphs, _passes, _backend)]
    departs = any(answer.outcome is FactResult.DIFFERS for answer in answers)
    return Alarm.WRONG_SETTING if departs or not setting.is_written else Alarm.NONE


def _flag_alarm(written: Written, engine: Engine) -> Alarm:
    """What the flag does wrongly in one engine."""
    is_unsafe = written.verdict is not None and written.verdict.unsafe
    if written.status is FlagStatus.ALWAYS_ON:
        return Alarm.WRONG if is_unsafe else Alarm.NONE
    if engine.config.flag is not FlagValue.ON:
        return Alarm.NONE
    if _is_wrong(written):
        return Alarm.WRONG
    is_against = _expected_flag(written) is False or _has_unwritten_draft(written, engine)
    return Alarm.UNPROVED if is_against else Alarm.NONE


def _has_unwritten_draft(written: Written, engine: Engine) -> bool:
    """Whether a draft runs that the decision does not know of: its layers may be counted, too."""
    effective = engine.config.speculative
    has_draft = isinstance(effective, Speculative) and not _brings_own_draft(written, effective)
    return written.speculative is None and has_draft


def _mode(written: Written | None, _: Start, engine: Engine) -> _Answer:
    mode = engine.config.mode
    if mode is None:
        return _unsaid(written)
    expected = written.expected_modes() if written else set()
    outcome = _same_or_not(mode in expected) if expected else FactResult.REPORTED
    return _Answer(mode_name(mode), outcome, engine.line)


def _speculative(written: Written | None, _: Start, engine: Engine) -> _Answer:
    effective = engine.config.speculative
    if effective is NoDraft.UNSAID:
        return _unsaid(written)
    text = "none"
    if isinstance(effective, Speculative):
        text = draft_text(effective.method, effective.model, effective.tokens)
    if written is None:
        return _Answer(text, FactResult.REPORTED, engine.line)
    if not isinstance(effective, Speculative):
        return _Answer(text, _same_or_not(written.speculative is None), engine.line)
    if _brings_own_draft(written, effective):
        return _Answer(text, FactResult.SAME, engine.line, "the checkpoint brings its own draft")
    same = written.speculative is not None and _is_same_draft(written.speculative, effective)
    return _Answer(text, _same_or_not(same), engine.line)


def _is_same_draft(written: Mapping[str, Any], effective: Speculative) -> bool:
    """Whether the engine keeps the draft of the launch; values that vLLM may fill in or rename are not compared."""
    method = str(written.get("method") or "").strip("[]")
    tokens, model = written.get("num_speculative_tokens"), written.get("model")
    return (
        (method not in _KEPT_METHODS or method == effective.method)
        and (tokens is None or str(tokens) == str(effective.tokens))
        and (model is None or effective.model is None or model == effective.model)
    )


def _cache(written: Written | None, start: Start, engine: Engine) -> _Answer:
    root = (written.cache_dir or written.cache_root) if written else None
    cache = start.cache
    if engine.config.mode == MODE_NONE and not cache.hits and not cache.misses:
        return _Answer("unused", FactResult.REPORTED, engine.line, "nothing is compiled")
    if any(other.ready is None for other in start.engines):
        return _unsaid(written if root else None, "the engine is not ready, so more may follow")
    if cache.line is None:
        return _unsaid(written if root else None)
    return _place(written, root, cache)


def _place(written: Written | None, root: str | None, cache: CacheUse) -> _Answer:
    """Where compiled code came from, compared with where it was meant to be."""
    folders = cache.folders | cache.aot_folders
    text = " in ".join([_use(cache), *([", ".join(list(folders)[:4])] if folders else [])])
    if written is None or root is None:
        return _Answer(text, FactResult.REPORTED, cache.line)
    if cache.off is not None:
        return _Answer(text, FactResult.DIFFERS, cache.off, "vLLM's compile cache is off")
    checked = cache.folders if written.cache_dir else folders
    elsewhere = [folder for folder in checked if not _is_below(folder, root)]
    if elsewhere and (PurePosixPath(root).is_absolute() or name_of_proof(root)):
        return _Answer(text, FactResult.DIFFERS, checked[elsewhere[0]], f"{elsewhere[0]} is elsewhere")
    if elsewhere or not checked or MAX_FOLDERS in {len(cache.folders), len(cache.aot_folders)}:
        note = "code compiled ahead of time ignores cache_dir" if not checked else "the folders cannot be compared"
        return _Answer(text, FactResult.NOT_SAID, cache.line, note)
    return _Answer(text, FactResult.SAME, checked[next(iter(checked))])


def _is_below(folder: str, root: str) -> bool:
    """Whether a folder lies below a root; below `~`, the name of a proof in the path decides, if there is one."""
    proof = name_of_proof(root)
    if proof and not PurePosixPath(root).is_absolute():
        return f"/{PROOFS}/{proof}/" in f"{folder}/"
    return PurePosixPath(folder).is_relative_to(root)


def _use(cache: CacheUse) -> str:
    if cache.off is not None:
        return "off"
    if cache.hits and cache.misses:
        return f"partly: {cache.hits} hits, {cache.misses} misses"
    if cache.hits:
        return "hit"
    return "miss" if cache.misses else UNSAID


def _notes(log: ServerLog) -> Iterator[str]:
    if not log.engines:
        yield "The log holds no line in which an engine prints its configuration."
    for source in dict.fromkeys(start.source for start in log.starts):
        yield from _notes_of([start for start in log.starts if start.source == source])
    if len(log.engines) > 1:
        yield f"{len(log.engines)} engines are in the log; all must agree."
    if log.cut:
        yield "The log holds more sources, starts or engines than are kept."


def _notes_of(starts: list[Start]) -> Iterator[str]:
    """What must be known of the starts of one source, which may all run."""
    newest = starts[-1]
    of_source = f" of {newest.source}" if newest.source else ""
    if len(starts) > 1:
        yield from _notes_of_several(starts, of_source)
    elif newest.number > 1:
        where = f"line {newest.engines[0].line}" if newest.engines else "its engine is not in the log yet"
        yield f"The log holds {newest.number} starts{of_source}; the last one counts ({where})."
    if newest.stopped is not None:
        yield f"The server{of_source} has stopped since (line {newest.stopped})."
    strangers = [start.stranger for start in starts if start.stranger is not None]
    if strangers:
        yield f"Line {strangers[0]} is of another server, whose own start is not in this log. {_ONE_SERVER}"


def _notes_of_several(starts: list[Start], of_source: str) -> Iterator[str]:
    lines = " and ".join(str(start.first) for start in starts)
    if any(start.standing is Standing.MAYBE_OVER for start in starts):
        yield (
            f"Starts{of_source} begin in lines {lines}, and no line says that the earlier one ended: it may be a "
            f"restart, or another server. {_ONE_SERVER} After a restart: `docker logs --since TIME`."
        )
    else:
        yield f"{len(starts)} servers write into this log{of_source}, from lines {lines} on. {_ONE_SERVER}"


_ONE_SERVER = (
    "Give the log of one server (`kubectl logs POD`), or one that names each (`kubectl logs -l LABEL --prefix`)."
)


_LOOKS: dict[str, _Look] = {
    "start": _start,
    "vllm": _vllm,
    "model": _model,
    "flag": _flag,
    "mode": _mode,
    "graphs": _graphs,
    "passes": _passes,
    "backend": _backend,
    "cache": _cache,
    "speculative": _speculative,
}
