"""Test support: a tiny program in the place of `vllm`, to show what a server would be given and how it is stopped.

It stands in because a real vLLM takes a minute to start and shows none of this; `test_serve_vllm.py` starts real ones.
"""

import json
from typing import Any

from fake_environment import Serving

PROGRAM = """#!{python}
import json, os, signal, sys
def stop(number, frame):
    os.write(1, b"stopped by " + signal.Signals(number).name.encode() + b"\\n")  # it may interrupt a `print`
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
facts = {{"args": sys.argv[1:], "pid": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ), "user": os.getuid()}}
facts["read"] = sys.stdin.read() if "--read" in sys.argv else ""
print(json.dumps(facts), flush=True)
while "--wait" in sys.argv:
    signal.pause()
sys.exit(7)
"""
CODE = 7
"""With which it ends."""


def with_server(serving: Serving) -> Serving:
    """Put the program in the place of `vllm` in an environment."""
    script = serving.folder / "bin" / "vllm"
    script.write_text(PROGRAM.format(python=serving.python), encoding="utf-8")
    script.chmod(0o755)
    return serving


def facts_of(output: str) -> dict[str, Any]:
    """What it printed first."""
    facts: dict[str, Any] = json.loads(output.splitlines()[0])
    return facts


def config_in(facts: dict[str, Any]) -> dict[str, Any]:
    """The one compilation config it was given."""
    args = facts["args"]
    assert args.count("--compilation-config") == 1
    document: dict[str, Any] = json.loads(args[args.index("--compilation-config") + 1])
    return document
