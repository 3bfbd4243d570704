"""Test support: `tuner probe --all` with a registry and a worker that are made up.

`install` puts a script in the worker's place and a listing in the registry's, in this process. Run as a script it does
that in a process of its own, which can then be killed: `python registry_stand_in.py PLAN TUNER ARGUMENTS...`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

WORKER = """
import json, os, sys, time
from pathlib import Path

control, plan = Path(sys.argv[1]), json.loads(Path({plan!r}).read_text())
parent = os.getppid()
with Path(plan["starts"]).open("a") as notes:
    notes.write(f"{{os.getpid()}}\\n")
(control / "draft").write_text('{{"result": "ok"}}')
(control / "draft").rename(control / "environment.json")
for job in json.loads((control / "request.json").read_text())["models"]:
    name = job["config"]["architectures"][0]
    with Path(plan["probed"]).open("a") as notes:
        notes.write(f"{{name}}\\n")
    while name in plan["held"] and Path(plan["hold"]).exists() and os.getppid() == parent:
        time.sleep(0.05)
    if os.getppid() != parent:
        sys.exit()
    draft = control / "draft"
    draft.write_text(json.dumps(plan["reports"][name]))
    draft.rename(control / f"report-{{job['index']}}.json")
"""


LISTING: dict[str, Any] = {"architectures": [], "environment": {"vllm": "0.19.1", "torch": "2.10.0", "device": "cpu"}}
"""What the stand-in of vLLM answers; the candidates come from the plan."""


@dataclass(frozen=True)
class Plan:
    """What the stand-ins do; written to a file, so that other processes read it.

    Attributes:
        folder: where its files lie.
    """

    folder: Path

    def write(
        self, reports: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]], held: Sequence[str] = ()
    ) -> None:
        """Set the report of each architecture, the candidates, and which architectures wait for `release`."""
        notes = {name: str(self.folder / name) for name in ("starts", "probed", "hold")}
        plan = {"reports": reports, "candidates": candidates, "held": held, **notes}
        self.file.write_text(json.dumps(plan))

    @property
    def file(self) -> Path:
        """The plan itself."""
        return self.folder / "plan.json"

    def probed(self) -> list[str]:
        """Architectures that workers have begun since the last call, sorted."""
        return sorted(self._taken("probed"))

    def workers(self) -> list[str]:
        """Process ids of the workers started since the last call."""
        return self._taken("starts")

    def hold(self) -> None:
        """Let architectures that are held wait."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        """Let them go on."""
        (self.folder / "hold").unlink()

    def _taken(self, name: str) -> list[str]:
        notes = self.folder / name
        lines = notes.read_text().split() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


def install(file: Path, put: Any) -> None:
    """Put the stand-ins in place.

    Args:
        file: the plan.
        put: sets an attribute, as `setattr` does.
    """
    from tuner.probe import runner, sweep  # noqa: PLC0415  the tests' other modules do not need them
    from tuner.probe.candidates import Candidate  # noqa: PLC0415  as above

    def list_registry(_python: str, on_stage: Any) -> dict[str, Any]:
        on_stage("import", 0)
        return LISTING

    def candidates(
        listing: Mapping[str, Any], configs: Path | None, home: Path, *, text_only: bool, match: str | None
    ) -> list[Candidate]:
        assert listing == LISTING
        (home / "asked.json").write_text(json.dumps([str(configs), text_only, match]))
        rows = [Candidate(**row) for row in json.loads(file.read_text())["candidates"]]
        return [row for row in rows if fnmatchcase(row.architecture, match or "*")]

    worker = file.with_name("moe_probe_worker")
    worker.write_text(WORKER.format(plan=str(file)))
    put(runner, "WORKER", worker)
    put(sweep, "list_registry", list_registry)
    put(sweep, "candidates", candidates)


if __name__ == "__main__":
    from tuner.__main__ import main

    install(Path(sys.argv.pop(1)), setattr)
    main()
