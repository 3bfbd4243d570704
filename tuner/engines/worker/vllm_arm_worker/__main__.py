"""The entry point: `PYTHON .../vllm_arm_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("vllm_arm_worker needs Python 3.10 or later")

# If Python runs a folder, it puts this folder first on the path. Then the
# modules in it could hide other modules of the same name. The two folders below
# replace it. They hold this worker, the launch worker, and `shared_worker`.
WORKER = Path(__file__).resolve().parent
sys.path[:1] = [str(WORKER.parent), str(WORKER.parents[2] / "processes" / "worker")]

if __name__ == "__main__":  # vLLM's helper processes import this file, too
    from vllm_arm_worker import arm
    from vllm_launch_worker import answer

    answer.OF_ENGINES["arm"] = arm.observe
    answer.main(Path(sys.argv[1]))
