"""The replay probe: the engine that a launch would start, its MoE calls watched on the device."""

from collections.abc import Mapping
from typing import Any

from tuner.engines.engines import Asking, Found, Starting, Watching, answers, launched
from tuner.processes.answers import Shape, require

PASS = ("request", "called", "ran", "tokens", "count", "replayed", "ambiguous")
NOTHING: Found = {"registered": [], "lost": 0, "engine": {}, "changed": [], "passes": []}
ANSWER: Shape = {"registered": list, "passes": list, "lost": int, "engine": dict, "changed": list}


def replayed(starting: Starting, watching: Watching) -> list[Found]:
    """Watch each engine of a launch.

    Returns:
        What the report keeps of them (`rules.report.Replay`).

    Raises:
        TunerError: no engine could be started: the failure of the first.
    """
    return answers(Asking("replay", _kept, NOTHING), launched(starting.plan), starting, watching)


def _kept(answer: Mapping[str, Any]) -> Found:
    require("result.json", answer, ANSWER)
    passes = [{name: one.get(name) for name in PASS} for one in answer["passes"] if isinstance(one, dict)]
    return {**{name: answer[name] for name in ("registered", "lost", "engine", "changed")}, "passes": passes}
