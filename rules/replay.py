"""What ran in the engine of a launch, against what the model meant and against the verdict on its code."""

from msgspec.structs import replace

from rules.reason import Reason, reason
from rules.report import Replay, ReplayPass
from rules.verdict import WRONG_LAYER, Verdict, Word

EQUAL, UNKNOWN = "equal", "unknown"
WITHOUT_GRAPHS = ("NONE", None)


def judge_replay(run: Replay) -> tuple[str, Reason]:
    """Whether every MoE call of an engine ran the layer that was meant: `equal`, `wrong_layer` or `unknown`, and why.

    One wrong call proves `wrong_layer`. `equal` needs every call of every pass to be told, and where the engine
    captures CUDA graphs, some pass that was replayed from one.
    """
    if run.status != "ran":
        return UNKNOWN, failed_engine(run.detail)
    if wrong := [replay_pass for replay_pass in run.passes if _wrong_call(replay_pass) is not None]:
        return WRONG_LAYER, _wrong_layer(max(wrong, key=lambda replay_pass: replay_pass.count))
    if gaps := _gaps(run):
        return UNKNOWN, gaps[0]
    passes = sum(replay_pass.count for replay_pass in run.passes)
    replayed = sum(replay_pass.count for replay_pass in run.passes if replay_pass.replayed)
    processes = run.engine.get("processes")
    several = {"processes": processes} if type(processes) is int and processes != 1 else {}
    return EQUAL, reason("replay_equal", passes=passes, replayed=replayed, **several)


def failed_engine(detail: str) -> Reason:
    """Why an engine showed nothing.

    Args:
        detail: what was reported; may be empty.
    """
    return reason("engine_failed", detail=detail) if detail else reason("engine_not_run")


def _wrong_call(replay_pass: ReplayPass) -> int | None:
    """The first call that another layer answered, if calls and runs can be told apart."""
    if replay_pass.ambiguous:
        return None
    pairs = enumerate(zip(replay_pass.called, replay_pass.ran, strict=True))
    return next((at for at, (meant, ran) in pairs if None not in (meant, ran) and meant != ran), None)


def _wrong_layer(wrong: ReplayPass) -> Reason:
    at = _wrong_call(wrong) or 0
    return reason(
        "wrong_layer",
        call=at + 1,
        request=wrong.request,
        meant=str(wrong.called[at]),
        ran=str(wrong.ran[at]),
        passes=wrong.count,
        replayed=wrong.count if wrong.replayed else 0,
    )


def _gaps(run: Replay) -> list[Reason]:
    """What an engine without a wrong call lacks to be proof."""
    calls = [call for replay_pass in run.passes for call in (*replay_pass.called, *replay_pass.ran)]
    graphs = run.engine.get("cudagraph_mode") not in WITHOUT_GRAPHS
    gaps = []
    if run.name == "flag_on" and run.engine.get("flag") is not True:
        gaps.append(reason("flag_switched_off"))
    if run.lost > 0:
        gaps.append(reason("records_lost", count=run.lost))
    if not calls:
        gaps.append(reason("no_call_recorded"))
    if None in calls:
        gaps.append(reason("call_without_run"))
    if any(each.ambiguous for each in run.passes):
        gaps.append(reason("calls_overlapped"))
    if graphs and not any(each.replayed for each in run.passes):
        gaps.append(reason("none_replayed"))
    return gaps


def replay_orders(run: Replay) -> list[tuple[str, tuple[str, ...]]]:
    """The orders that the model meant, as passes to be judged like any others; none that is not whole."""
    orders = []
    for replay_pass in run.passes:
        order = tuple(call for call in replay_pass.called if call is not None)
        if len(order) == len(replay_pass.called) and not replay_pass.ambiguous:
            orders.append((f"{replay_pass.request} of the replay probe", order))
    return orders


def held_against(verdict: Verdict, runs: tuple[Replay, ...]) -> Verdict:
    """The verdict with what the engines showed; a safe one that they contradict proves nothing any more."""
    judged = {run.name: judge_replay(run) for run in runs}
    words: dict[str, str] = {name: word for name, (word, _) in judged.items()}
    reasons: dict[str, Reason] = {name: why for name, (_, why) in judged.items()}
    with_replays = replace(verdict, replays=words, replay_reasons=reasons)
    wrong = [name for name, word in words.items() if word == WRONG_LAYER]
    if not wrong or not verdict.word.safe:
        return with_replays
    against = [reason("replay_contradicts", reasons[name], engine=name) for name in wrong]
    return replace(with_replays, word=Word.INCONCLUSIVE, reasons=(*against, *verdict.reasons))
