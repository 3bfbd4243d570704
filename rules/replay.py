"""What ran in the engine of a launch, against what the model meant and against the verdict on its code."""

from dataclasses import replace

from rules.report import Replay, ReplayPass
from rules.verdict import WRONG_LAYER, Verdict, Word

EQUAL, UNKNOWN = "equal", "unknown"
WITHOUT_GRAPHS = ("NONE", None)


def judge_replay(run: Replay) -> tuple[str, str]:
    """Whether every MoE call of an engine ran the layer that was meant: `equal`, `wrong_layer` or `unknown`, and why.

    One wrong call proves `wrong_layer`. `equal` needs every call of every pass to be told, and where the engine
    captures CUDA graphs, some pass that was replayed from one.
    """
    if run.status != "ran":
        return UNKNOWN, run.detail or "the engine did not run"
    if wrong := [one for one in run.passes if _wrong_call(one) is not None]:
        return WRONG_LAYER, _sentence(max(wrong, key=lambda one: one.count))
    if gaps := _gaps(run):
        return UNKNOWN, gaps[0]
    passes = sum(one.count for one in run.passes)
    replayed = sum(one.count for one in run.passes if one.replayed)
    processes = run.engine.get("processes", 1)
    of_all = "" if processes == 1 else f" of {processes} processes"
    return EQUAL, f"{passes} passes{of_all}, {replayed} of them replayed from CUDA graphs"


def _wrong_call(one: ReplayPass) -> int | None:
    """The first call that another layer answered, if calls and runs can be told apart."""
    if one.ambiguous:
        return None
    pairs = enumerate(zip(one.called, one.ran, strict=True))
    return next((at for at, (meant, ran) in pairs if None not in (meant, ran) and meant != ran), None)


def _sentence(wrong: ReplayPass) -> str:
    at = _wrong_call(wrong) or 0
    how = "replayed from CUDA graphs" if wrong.replayed else "not replayed"
    return (
        f"call {at + 1} of a pass of request {wrong.request} meant {wrong.called[at]}, and {wrong.ran[at]} ran "
        f"({wrong.count} such passes, {how})"
    )


def _gaps(run: Replay) -> list[str]:
    """What an engine without a wrong call lacks to be proof."""
    calls = [call for one in run.passes for call in (*one.called, *one.ran)]
    graphs = run.engine.get("cudagraph_mode") not in WITHOUT_GRAPHS
    found = {
        "vLLM switched the flag off in this engine, which so shows nothing of it": run.name == "flag_on"
        and run.engine.get("flag") is not True,
        f"{run.lost} records of the trace were lost": run.lost > 0,
        "no MoE call was recorded": not calls,
        "a call without a run, or a run without a call, was recorded": None in calls,
        "calls overlapped, so that which run answers which is not told": any(one.ambiguous for one in run.passes),
        "no pass was replayed from a CUDA graph, although the launch asks for them": graphs
        and not any(one.replayed for one in run.passes),
    }
    return [words for words, there in found.items() if there]


def replay_orders(run: Replay) -> list[tuple[str, tuple[str, ...]]]:
    """The orders that the model meant, as passes to be judged like any others; none that is not whole."""
    whole = [one for one in run.passes if None not in one.called and not one.ambiguous]
    return [(f"{one.request} of the replay probe", tuple(call for call in one.called if call)) for one in whole]


def held_against(verdict: Verdict, runs: tuple[Replay, ...]) -> Verdict:
    """The verdict with what the engines showed; a safe one that they contradict proves nothing any more."""
    judged = {run.name: judge_replay(run) for run in runs}
    words: dict[str, str] = {name: word for name, (word, _) in judged.items()}
    reasons: dict[str, str] = {name: reason for name, (_, reason) in judged.items()}
    made = replace(verdict, replays=words, replay_reasons=reasons)
    against = [f"replay probe, {name}: {reason}" for name, (word, reason) in judged.items() if word == WRONG_LAYER]
    if not against or not verdict.word.safe:
        return made
    return replace(made, word=Word.INCONCLUSIVE, reasons=(*against, *verdict.reasons))
