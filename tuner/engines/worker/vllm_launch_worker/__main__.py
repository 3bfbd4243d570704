"""Entry: `PYTHON .../vllm_launch_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("vllm_launch_worker needs Python 3.10 or later")

# Running a folder puts the folder itself first on the path, where its modules
# would shadow others. These two hold one package each and nothing else: this
# worker, and what both workers need.
WORKER = Path(__file__).resolve().parent
sys.path[:1] = [str(WORKER.parent), str(WORKER.parents[2] / "processes" / "worker")]

if __name__ == "__main__":  # vLLM starts helper processes that import this file anew
    from vllm_launch_worker.answer import main

    main(Path(sys.argv[1]))
