"""Entry: `PYTHON .../vllm_launch_worker CONTROL_FOLDER`."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("vllm_launch_worker needs Python 3.10 or later")

# Running a folder puts the folder itself first on the path, where its modules
# would shadow others. Its parent holds this one package and nothing else.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":  # vLLM starts helper processes that import this file anew
    from vllm_launch_worker.answer import main

    main(Path(sys.argv[1]))
