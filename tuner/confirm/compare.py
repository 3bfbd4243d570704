"""A decision against what a server's log says of the engine that runs. Pure.

Nothing is confirmed that the log does not say: a line that is missing, cut or doubled leaves its fact unsaid, and one
unsaid fact leaves the whole unconfirmed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rules.decide import MODE_NONE
from rules.releases import FlagStatus, public_version
from tuner.confirm.expected import Written, draft_text
from tuner.confirm.outcome import Confirmation, Fact, FactResult
from tuner.launch.cache_root import PROOFS, name_of_proof
from tuner.server_log.engine_line import ABSENT, Speculative, mode_name
from tuner.server_log.log import MAX_FOLDERS, CacheUse, Engine, ServerLog, Start

UNSAID = "not said"
_KEPT_METHODS = {"ngram", "suffix", "eagle", "eagle3"}
"""Methods that vLLM never renames (vllm/config/speculative.py; read in 0.19.1 and 0.32.0)."""

_WEIGHT = (FactResult.SAME, FactResult.REPORTED, FactResult.NOT_SAID, FactResult.DIFFERS)
"""Of several engines the last of these counts."""
_SHOWN = 8
"""Engines that are named where they differ."""


@dataclass(frozen=True)
class _Answer:
    """What one engine of one start says of a fact."""

    effective: str
    outcome: FactResult
    line: int | None
    note: str = ""


_Look = Callable[[Written | None, Start, Engine], _Answer]


def confirm(log: ServerLog, written: Written | None) -> Confirmation:
    """Compare a log with a decision; without one, report what it says."""
    texts = written.texts() if written else {}
    facts = tuple(_fact(name, texts.get(name, ""), look, log, written) for name, look in _LOOKS.items())
    return Confirmation(written is not None, facts, log, tuple(_notes(log)))


def _fact(name: str, text: str, look: _Look, log: ServerLog, written: Written | None) -> Fact:
    """One fact over all engines: the worst outcome counts."""
    answers: list[tuple[str, _Answer]] = []
    for start in log.starts:
        for engine in start.engines:
            answer = look(written, start, engine)
            answers.append((engine.name, answer))
    # Behind the engines: of equal outcomes the first is shown.
    without_engine = [start for start in log.starts if not start.engines]
    answers += [("", _unsaid(written, "the last start has no engine line"))] * len(without_engine)
    if not answers:
        answers = [("", _unsaid(written, ""))]
    worst = max((answer for _, answer in answers), key=lambda answer: _WEIGHT.index(answer.outcome))
    if len({answer.effective for _, answer in answers}) == 1:
        return Fact(name, text, worst.effective, worst.outcome, worst.line, worst.note)
    effective = ", ".join(f"{answer.effective} ({who or 'no engine'})" for who, answer in answers[:_SHOWN])
    split = written is not None and worst.outcome is FactResult.REPORTED and name != "cache"
    outcome = FactResult.DIFFERS if split else worst.outcome
    return Fact(name, text, effective, outcome, worst.line, worst.note or "the engines of this log differ")


def _unsaid(written: Written | None, note: str = "") -> _Answer:
    return _Answer(UNSAID, FactResult.REPORTED if written is None else FactResult.NOT_SAID, None, note)


def _compared(same: bool | None, effective: str, line: int | None, note: str = "") -> _Answer:
    """A fact that the log says; `same` is None where there is nothing to compare it with."""
    outcome = {None: FactResult.REPORTED, True: FactResult.SAME, False: FactResult.DIFFERS}[same]
    return _Answer(effective, outcome, line, note)


def _start(written: Written | None, start: Start, engine: Engine) -> _Answer:
    if start.failed is not None:
        outcome = FactResult.REPORTED if written is None else FactResult.NOT_SAID
        return _Answer("failed", outcome, start.failed, "an engine failed to start: nothing of it runs")
    if engine.ready is None:
        return _unsaid(written, "no line says that the engine is ready")
    refused = written is not None and written.refused
    note = "the decision refused this launch" if refused else ""
    return _compared(None if written is None else not refused, "ready", engine.ready, note)


def _vllm(written: Written | None, _: Start, engine: Engine) -> _Answer:
    version = engine.config.vllm
    if version is None:
        return _unsaid(written)
    return _compared(public_version(written.vllm) == public_version(version) if written else None, version, engine.line)


def _model(written: Written | None, start: Start, engine: Engine) -> _Answer:
    model = engine.config.model
    if model is None:
        return _unsaid(written)
    if written is None:
        return _compared(None, model, engine.line)
    if written.model == model:
        return _compared(True, model, engine.line)
    if start.replaced.get(written.model) == model:
        return _compared(True, model, engine.line, "the local copy of that model, as vLLM says when offline")
    if _brings_own_draft(written, engine.config.speculative):
        return _compared(True, model, engine.line, "the target that the checkpoint names")
    return _compared(False, model, engine.line)


def _brings_own_draft(written: Written, speculative: Speculative | bool | None) -> bool:
    """A checkpoint in the `speculators` format is the draft, and vLLM serves the model that it names.

    See vllm/transformers_utils/config.py, maybe_override_with_speculators.
    """
    none_given = written.speculative is None
    return none_given and isinstance(speculative, Speculative) and speculative.model == written.model


def _flag(written: Written | None, _: Start, engine: Engine) -> _Answer:
    flag = engine.config.flag
    if flag is None:
        return _unsaid(written)
    text = ABSENT if flag == ABSENT else str(flag).lower()
    if written is None:
        return _compared(None, text, engine.line)
    if flag is True and _is_wrong(written):
        note = f"the verdict is {written.verdict}: this server runs wrong experts"
        return _Answer(text, FactResult.DIFFERS, engine.line, note)
    if flag is True and _is_guess(written):
        return _Answer(text, FactResult.NOT_SAID, engine.line, "the flag is on, and nothing proves that it is safe")
    inert = written.status is FlagStatus.INERT
    expected = False if inert and written.flag is None else written.flag
    note = "the decision says that vLLM forces it to false there" if inert and flag is not expected else ""
    return _compared(None if expected is None else flag is expected, text, engine.line, note)


def _is_wrong(written: Written) -> bool:
    """Whether a flag that is on runs wrong experts: it counts, and the verdict is unsafe."""
    counts = written.status in {FlagStatus.SETTABLE, FlagStatus.UNKNOWN, FlagStatus.INERT}
    return counts and written.verdict is not None and written.verdict.unsafe


def _is_guess(written: Written) -> bool:
    """Whether nobody knows what the flag does, nothing was written about it, and no verdict says that it is safe."""
    proved = written.verdict is not None and written.verdict.safe
    return written.status is FlagStatus.UNKNOWN and written.flag is None and not proved


def _mode(written: Written | None, _: Start, engine: Engine) -> _Answer:
    mode = engine.config.mode
    if mode is None:
        return _unsaid(written)
    expected = written.expected_modes() if written else set()
    return _compared(mode in expected if expected else None, mode_name(mode), engine.line)


def _speculative(written: Written | None, _: Start, engine: Engine) -> _Answer:
    effective = engine.config.speculative
    if effective is None:
        return _unsaid(written)
    if isinstance(effective, bool):
        return _compared(written.speculative is None if written else None, "none", engine.line)
    text = draft_text(effective.method, effective.model, effective.tokens)
    if written is None:
        return _compared(None, text, engine.line)
    if written.speculative is None:
        own = _brings_own_draft(written, effective)
        return _compared(own, text, engine.line, "the checkpoint brings its own draft" if own else "")
    return _compared(_is_same_draft(written.speculative, effective), text, engine.line)


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
    return "hit" if cache.hits else "miss" if cache.misses else UNSAID


def _notes(log: ServerLog) -> Iterator[str]:
    if not log.engines:
        yield "The log holds no line in which an engine prints its configuration."
    for start in log.starts:
        if start.number > 1:
            where = f"line {start.engines[0].line}" if start.engines else "its engine is not in the log yet"
            yield f"The log holds {start.number} starts{_of(start.engines)}; the last one counts ({where})."
    if len(log.engines) > 1:
        yield f"{len(log.engines)} engines are in the log; all must agree."
    if log.cut:
        yield "The log holds more sources or engines than are kept."


def _of(engines: Sequence[Engine]) -> str:
    for engine in engines:
        pod, blank, _ = engine.name.partition(" ")
        if blank:
            return f" of {pod}"
    return ""


_LOOKS: dict[str, _Look] = {
    "start": _start,
    "vllm": _vllm,
    "model": _model,
    "flag": _flag,
    "mode": _mode,
    "cache": _cache,
    "speculative": _speculative,
}
