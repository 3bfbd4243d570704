"""manifests -> check and apply: published manifests, exports, scripts, and argument lists, damaged."""

import json
import re
import shlex
from pathlib import Path as File

from argument_lists import composed
from hypothesis import strategies as st

from fuzz import fuzz_arguments
from fuzz.checking import MODELS, Ground, checked_case, damaged_case, ground_of, holds_launch
from fuzz.mutate import Draw

HERE = File(__file__).parents[1]
LONGEST_TEXT = 2_500
"""Characters: time goes by the size, and most of a large manifest is not a launch."""
LAUNCH = "vllm serve {model} --tensor-parallel-size 2 --compilation-config '{{\"mode\": 3}}'\n"
SCRIPT = """CC='{{"mode": 3}}'
if [ "$FAST" = 1 ]; then CC='{{"mode": 0}}'; else CC='{{"mode": 3}}'; fi
case $1 in a) TP=2 ;; *) TP=4 ;; esac
CMD=(vllm serve {model} --tensor-parallel-size 2)
[ "$X" ] && CMD+=(--compilation-config "$CC") || TP+=1
for i in 1 2; do PORT=$i; done
start() {{ local MODEL={model}; srun vllm serve "$MODEL" --port $PORT "$@"; }}
"${{CMD[@]}}" > log 2>&1 &
docker run --rm -e A=$CC vllm/vllm-openai:v0.19.1 --model {model} --seed ${{SEED:-1}}
bash -lc -- "vllm serve {model} -cc '$CC'" | tee log
cat > run.sh <<EOF
vllm serve {model} --compilation-config '$CC'
EOF
"""
"""A script with every construct that the reader of shell text follows."""
PROVED = ["vllm", "serve", MODELS[0]]
"""A launch that is proved, so that it gets a variable beside its argument."""
PROVED_POD = f"""apiVersion: v1
kind: Pod
spec:
  containers:
  - name: c
    image: vllm/vllm-openai-cpu:v0.19.1
    command: [vllm, serve, {MODELS[0]}]
    env:
    - name: A  # why
      value: |
        b
    - {{name: B, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}
  - name: d
    image: registry.example.com/vllm:1
    args:
    - {MODELS[0]}
    command:
      - vllm
      - serve
    volumeMounts: [{{name: v, mountPath: /cache}}]
    securityContext: {{readOnlyRootFilesystem: false}}
"""
NAMED = r"\b(facebook|meta-llama|Qwen|mistralai|deepseek-ai)/[\w.-]+"
"""Models of the published manifests; one with a stored verdict takes their place."""


def ground(folder: File) -> Ground:
    """Published manifests that hold a launch and are not too large, the golden exports, and plain command lines."""
    files = [file for file in sorted((HERE / "manifests").rglob("*")) if file.is_file() and file.name != "README.md"]
    texts = [(file.suffix, file.read_text(encoding="utf-8")) for file in files]
    texts += [(".yaml", file.read_text(encoding="utf-8")) for file in sorted((HERE / "golden").glob("*.txt"))]
    texts += [(end, LAUNCH.format(model=model)) for model in MODELS for end in (".sh", ".md", ".Dockerfile")]
    texts += [(".sh", SCRIPT.format(model=model)) for model in MODELS]
    texts += [(".json", pod_text(LAUNCH.format(model=model).split())) for model in MODELS]
    texts += [(end, text) for end, text in ((".json", pod_text(PROVED)), (".yaml", PROVED_POD))]
    texts = [(end, re.sub(NAMED, MODELS[0], text)) for end, text in texts]
    return ground_of(
        folder, [(end, text) for end, text in texts if len(text) <= LONGEST_TEXT and holds_launch(end, text)]
    )


def pod_text(command: list[str]) -> str:
    """A Pod in JSON with one container."""
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "i:1", "command": command}]}}
    )


def case(draw: Draw, ground: Ground) -> str:
    """One damaged manifest, or one with a damaged list of arguments."""
    if draw(st.sampled_from([True, False, False])):
        args = [MODELS[0] if arg == "some/model" else arg for arg in draw(composed()).args]
        words = ["vllm", "serve", *fuzz_arguments.damaged(draw, args)]
        if draw(st.booleans()):
            return checked_case(draw, ground, ".json", pod_text(words))
        return checked_case(draw, ground, ".sh", shlex.join(words))
    return damaged_case(draw, ground)
