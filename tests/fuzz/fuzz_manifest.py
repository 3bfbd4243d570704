"""manifests -> check and apply: published manifests, damaged; each is read or refused, and an edit is made once.

`test_manifest_hostile` makes manifests of known words; here real ones lose, gain and exchange parts of their text.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import yaml
from fake_environment import ERNIE, MIXTRAL, SETTABLE, serving_in
from hypothesis import strategies as st

from cache.verdicts.store import VerdictStore
from fuzz.limit import limited
from fuzz.mutate import Draw, Places, by_depth, mutated, paths, text_mutated
from fuzz.sentence import LONGEST, require_sentence
from rules.errors import TunerError
from tuner.checks.apply import Applied, apply
from tuner.checks.check import Checked, check
from tuner.checks.document import check_document, check_text
from tuner.checks.examine import Knowledge
from tuner.checks.sarif import sarif_log
from tuner.environment.environment import Environment
from tuner.manifests.find import launches_in

HERE = File(__file__).parents[1]
CONFIGS = HERE.parent / "examples" / "models"
MODELS = ("mistralai/Mixtral-8x7B-v0.1", "baidu/ERNIE-4.5-VL-28B-A3B-PT")
READ = (".yaml", ".yaml", ".yaml", ".sh", ".md", ".json", ".Dockerfile", ".service", ".container")
SEARCHED = (".py", ".tf", ".rst", ".ipynb")
SUFFIXES = (*READ, *SEARCHED)
LONGEST_TEXT = 2_500
"""Characters: time goes by the size, and most of a large manifest is no launch."""
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
NAMED = r"\b(facebook|meta-llama|Qwen|mistralai|deepseek-ai)/[\w.-]+"
"""Models of the published manifests; one with a stored verdict takes their place, so that there is something to do."""
VERSIONS = (None, "0.14.1", "0.15.1", "0.19.1", "0.32.0", "9.0.0")


@dataclass(frozen=True)
class Ground:
    """Manifests as they were published, a store with verdicts, and a folder to write into."""

    texts: tuple[tuple[str, str], ...]
    trees: tuple[tuple[Any, Places], ...]
    store: VerdictStore
    environment: Environment
    folder: File


def ground(folder: File) -> Ground:
    """Published manifests that hold a launch and are not too large, the golden exports, and plain command lines."""
    files = [file for file in sorted((HERE / "manifests").rglob("*")) if file.is_file() and file.name != "README.md"]
    texts = [(file.suffix, file.read_text(encoding="utf-8")) for file in files]
    texts += [(".yaml", file.read_text(encoding="utf-8")) for file in sorted((HERE / "golden").glob("*.txt"))]
    texts += [(suffix, LAUNCH.format(model=model)) for model in MODELS for suffix in (".sh", ".md", ".Dockerfile")]
    texts += [(".sh", SCRIPT.format(model=model)) for model in MODELS]
    texts += [(".json", pod_text(LAUNCH.format(model=model).split())) for model in MODELS]
    texts = [(suffix, re.sub(NAMED, MODELS[0], text)) for suffix, text in texts]
    path, serving = folder / "verdicts.sqlite", serving_in(folder / "env", SETTABLE)
    for model in (MIXTRAL, ERNIE):
        serving.remember(path, model)
    (folder / "manifests").mkdir()
    kept = [(suffix, text) for suffix, text in texts if len(text) <= LONGEST_TEXT and useful(suffix, text)]
    trees = [
        json.loads(json.dumps(list(yaml.safe_load_all(text)), default=str)) for name, text in kept if name == ".yaml"
    ]
    return Ground(
        tuple(kept),
        tuple((tree, by_depth(paths(tree))) for tree in trees),
        VerdictStore(path),
        serving.read(),
        folder / "manifests",
    )


def pod_text(command: list[str]) -> str:
    """A Pod in JSON with one container."""
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"command": command}]}})


def useful(suffix: str, text: str) -> bool:
    """Whether a text holds a launch."""
    try:
        return bool(launches_in(f"x{suffix}", text))
    except ValueError:  # a template, or YAML with a part of another kind
        return False


def case(draw: Draw, ground: Ground) -> str:
    """Damage one manifest, check it, and apply what it asks for until nothing is left to do."""
    suffix, text = damaged(draw, ground)
    exact = draw(st.booleans())
    knowledge = Knowledge(
        ground.store,
        ground.environment if exact else None,
        None if exact else draw(st.sampled_from(VERSIONS)),
        CONFIGS,
    )
    file = ground.folder / f"x{suffix}"
    with limited():
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            checked = check([file], knowledge)
            require_findings(checked, text)
            found = "launches" if checked.launches else "no launch"
            return f"{found}, {applied(file, knowledge)}"
        except TunerError as error:
            require_sentence(error)
            return "refused"


def damaged(draw: Draw, ground: Ground) -> tuple[str, str]:
    """The end of a file's name, and a text: a published one changed as text, or its documents changed as values."""
    if draw(st.booleans()):
        tree, places = draw(st.sampled_from(ground.trees))
        changed = mutated(draw, tree, places)
        documents = changed if isinstance(changed, list) else [changed]
        return ".yaml", yaml.safe_dump_all(documents, sort_keys=False, width=draw(st.sampled_from([20, 80, 10_000])))
    suffix, text = draw(st.sampled_from(ground.texts))
    other = draw(st.sampled_from([True, False, False, False]))
    return draw(st.sampled_from(SUFFIXES)) if other else suffix, text_mutated(draw, text, most=2)


def require_findings(checked: Checked, text: str) -> None:
    """Each finding is a sentence about a line of the file, and every form of the result can be written."""
    lines = text.count("\n") + text.count("\r") + 1
    for found in checked.findings:
        assert 1 <= found.line <= lines, (found.line, lines)
        assert found.message.strip().endswith(".")
        assert len(found.message) < LONGEST + len(text)
    json.dumps([check_document(checked), sarif_log(checked)], allow_nan=False)
    check_text(checked)


def applied(file: File, knowledge: Knowledge) -> str:
    """Apply, and apply to the result: the second time nothing changes."""
    (first,) = apply([file], knowledge)
    require_sayable(first)
    if first.after == first.before:
        return "unchanged"
    file.write_bytes(first.after.encode())
    (second,) = apply([file], knowledge)
    assert second.after == second.before, "a second time there was something to change"
    return "changed"


def require_sayable(made: Applied) -> None:
    """What is left alone is said in sentences, and a file without a change has no diff."""
    assert all(said.strip() for said in (*(alone.sentence for alone in made.left_alone), *made.warnings))
    assert bool(made.diff()) == (made.after != made.before)
    assert made.changed == 0 or made.after != made.before
