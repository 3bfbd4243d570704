"""Test support: a program in the place of `vllm` that compiles nothing, but writes and logs as a start does.

It stands in because no vLLM loads its compile cache on a CPU (0.19.1 and 0.32.0 fail to load what they saved), and
because real starts take minutes; `test_cache_warm_vllm.py` starts real ones. Its log lines are those of vLLM 0.26.0.
"""

import json
from typing import Any

from fake_environment import Serving

KEY = "5e" * 32
ENTRY = f"torch_compile_cache/torch_aot_compile/{KEY}"
CLIENTS = "sk-never-to-be-seen"
PROGRAM = """#!{python}
import http.server, json, os, signal, sys, time
from pathlib import Path
facts = Path({facts!r})
mode, root = os.environ.get("STAND_IN", "hit"), Path(os.environ["VLLM_CACHE_ROOT"])
with facts.open("a") as file:
    print(json.dumps({{"args": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}), file=file)
def log(text):
    print("(EngineCore pid=7) INFO 11-26 15:38:49 [decorators.py:311]", text, flush=True)
model = root / {entry!r} / "rank_0_0" / "model"
if mode == "dies":
    sys.exit("ValueError: no such model")
if mode == "never":
    time.sleep(600)
if model.exists() and mode != "unloadable":
    log(f"Directly load AOT compilation from path {{model}}")
elif mode != "silent":
    if model.exists():
        print("(EngineCore pid=7) WARNING 11-26 15:38:49 [decorators.py:333] Compiling model again due to a load"
              f" failure from {{model}}, reason: 'function' object has no attribute 'finalize_loading'", flush=True)
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_text("compiled")
    (root / "modelinfos").mkdir(exist_ok=True)
    (root / "modelinfos" / "one.json").write_text("{{}}")
    if mode == "half":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # vLLM puts it off until its engine is up
        (root / {entry!r} / "rank_0_0" / "model.7.tmp").write_text("half")
        time.sleep(600)
    log(f"saved AOT compiled function to {{model}}")
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
port = int(sys.argv[len(sys.argv) - 1 - sys.argv[::-1].index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""


def with_warm_server(serving: Serving) -> Serving:
    """Put the program in the place of `vllm` in an environment."""
    script = serving.folder / "bin" / "vllm"
    facts = str(serving.folder / "facts.jsonl")
    script.write_text(PROGRAM.format(python=serving.python, entry=ENTRY, facts=facts), encoding="utf-8")
    script.chmod(0o755)
    return serving


def starts(serving: Serving) -> list[dict[str, Any]]:
    """What each start was given, in order."""
    path = serving.folder / "facts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
