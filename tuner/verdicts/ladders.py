"""The stored ladder of a launch: found by the launch's key, and compared with what is here now.

Stands in a start path: nothing here may be slow to import.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from rules.ladder_finding import LadderFinding
from rules.launch_key import HARMLESS_VARIABLES, value_digest
from rules.reason import Reason, reason
from rules.report import Ladder, Report
from tuner.verdicts.identity import ARM_WORKER, Subject, files_digest, launch_worker_digest, python_files
from tuner.verdicts.proofs import LaunchIdentity

if TYPE_CHECKING:
    from tuner.verdicts.answer import LookUp

PREFIXES = ("VLLM_", "TORCH", "PYTORCH_", "CUDA_", "NCCL_", "FLASHINFER_", "TRITON_", "HIP_", "ROCM_")
"""How names of variables begin that may change which kernels run."""


DESCRIBING = frozenset({"CUDA_VERSION", "NCCL_VERSION", "VLLM_HOST_IP", "VLLM_PORT", "VLLM_USAGE_SOURCE"})
"""Variables that begin so and change no kernel: images state with them what is in them, and clusters where a pod is."""


class LaunchLadder(Struct, frozen=True):
    """What is stored about the arms of one launch.

    Attributes:
        key: of the launch; empty if no ladder applies.
        finding: what they show; None if no ladder applies.
        why_not: why none applies; None if one does, or if none is stored.
        made_at: when they were tried; empty without a finding.
        tried: how many arms ran.
    """

    key: str = ""
    finding: LadderFinding | None = None
    why_not: Reason | None = None
    made_at: str = ""
    tried: int = 0


NO_LADDER = LaunchLadder()
"""That of a launch whose arms were never tried."""


def ladder_for(lookup: "LookUp", subject: Subject, launch: LaunchIdentity, environ: Mapping[str, str]) -> LaunchLadder:
    """The ladder that applies to a launch. Only its own does: other arguments start other kernels.

    Args:
        lookup: the stored verdict.
        subject: the model and where it is served.
        launch: what is launched.
        environ: the environment variables of the launch.
    """
    if lookup.report is None or lookup.verdict is None:
        return NO_LADDER
    ladder = stored_ladder(lookup.report, launch.key)
    finding = lookup.verdict.ladders.get(launch.key)
    if ladder is None or finding is None:
        return NO_LADDER
    why_not = _unlike(ladder, subject, environ)
    if why_not is not None:
        return LaunchLadder(why_not=why_not)
    ran = sum(arm.status == "ran" for arm in ladder.arms)
    return LaunchLadder(launch.key, finding, None, ladder.made_at, ran)


def stored_ladder(report: Report, key: str) -> Ladder | None:
    """The ladder of one launch in a stored report; None if there is none."""
    return next((ladder for ladder in report.ladders if ladder.key == key), None)


def _unlike(ladder: Ladder, subject: Subject, environ: Mapping[str, str]) -> Reason | None:
    """How the surroundings of a launch differ from those in which its arms were tried; None if they do not."""
    environment = subject.environment
    if ladder.worker != arm_workers_digest():
        return reason("ladder_of_other_tool")
    if ladder.platform != environment.platform or ladder.gpu != (environment.gpu or ""):
        here = environment.gpu or environment.platform
        return reason("ladder_on_other_device", stored=ladder.gpu or ladder.platform, device=here)
    now = computing_variables(environ)
    for name in sorted({*ladder.variables, *now}):
        if ladder.variables.get(name, "") != now.get(name, ""):
            return reason("ladder_with_other_variable", variable=name)
    return None


def arm_workers_digest() -> str:
    """Digest over all files of the workers that start arms."""
    both = f"{launch_worker_digest()} {files_digest(python_files(ARM_WORKER))}"
    return hashlib.sha256(both.encode()).hexdigest()


def computing_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variable -> digest of its value, for those that may change how an engine computes."""
    others = HARMLESS_VARIABLES.keys() | DESCRIBING
    names = [name for name in environ if name.startswith(PREFIXES) and name not in others]
    return {name: value_digest(environ[name]) for name in sorted(names)}
