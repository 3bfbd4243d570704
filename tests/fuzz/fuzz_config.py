"""config.json -> shrink -> request: whatever the file holds, a request that a worker can read, or one sentence."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path as File
from typing import Any

from hypothesis import strategies as st

from cache.verdicts.row import verdict_row
from fuzz.limit import limited
from fuzz.mutate import Draw, Places, by_depth, json_text, mutated, paths, text_mutated
from fuzz.sentence import require_sentence
from rules.assumptions import COVERED
from rules.errors import TunerError
from tuner.environment.environment import Environment
from tuner.model.model import describe, parse_config
from tuner.probe import models
from tuner.verdicts.identity import Subject, base_factors

EXAMPLES = File(__file__).parents[2] / "examples" / "models"
ENVIRONMENT = Environment("python", "3.11", "0.32.0", "vllm", "2.13.0", None, None, "cpu", (), None, 0, ())


@dataclass(frozen=True)
class Published:
    """A real config.json, and where everything in it stands."""

    config: dict[str, Any]
    places: Places


def ground(_: File, configs: File = EXAMPLES) -> list[Published]:
    """Every `config.json` one level below a folder of published ones."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(configs.glob("*/config.json"))]
    return [Published(config, by_depth(paths(config))) for config in found]


def case(draw: Draw, configs: list[Published]) -> str:
    """Damage one config as a value or as text, and make a request of it."""
    chosen = draw(st.sampled_from(configs))
    if draw(st.booleans()):
        data = json_text(mutated(draw, chosen.config, chosen.places)).encode()
    else:
        data = text_mutated(draw, json_text(chosen.config)).encode("utf-8", "surrogatepass")
    with limited():
        return requested(data)


def requested(data: bytes) -> str:
    """Make a request of the bytes of a config.json: `requested`, or `refused`."""
    try:
        config = parse_config(data, "config.json")
        before = json_text(config)
        subject = Subject(describe("m", File("m"), config), ENVIRONMENT)
        job = models._job(0, subject)
    except TunerError as error:
        require_sentence(error)
        return "refused"
    assert json_text(config) == before, "the config itself was changed"
    assert {assumption["kind"] for assumption in job.assumptions} <= set(COVERED)
    assert len(verdict_row(base_factors(subject))) > 64
    request = json.dumps({"schema": 1, "models": [asdict(job)]})
    assert len(request) < 8 * len(data) + 4096, "the request is out of proportion"
    assert json_text(json.loads(request)["models"][0]["config"]) == json_text(job.config)
    return "requested"
