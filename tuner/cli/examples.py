"""One example for each command, at the end of its help."""

import typer

EXAMPLES = {
    "apply": "tuner apply --environment image.json --write deploy/",
    "cache explain": "tuner cache explain Qwen/Qwen3-30B-A3B -- --max-model-len 32768",
    "cache list": "tuner cache list --cache-root /var/cache/vllm",
    "cache pack": "tuner cache pack cache.tar.zst --record Qwen3-30B-A3B",
    "cache prune": "tuner cache prune --max-size 20G --dry-run",
    "cache scan": "tuner cache scan --cache-root /var/cache/vllm",
    "cache unpack": "tuner cache unpack cache.tar.zst --python /opt/vllm/bin/python",
    "cache warm": "tuner cache warm Qwen/Qwen3-30B-A3B -- --max-model-len 32768",
    "check": "tuner check --environment image.json --configs configs deploy/",
    "confirm": "kubectl logs deploy/moe | tuner confirm --decision plan.json",
    "env": "tuner env --python /opt/vllm/bin/python --json > image.json",
    "export": "tuner export Qwen/Qwen3-30B-A3B --format patch --name moe -- -tp 4",
    "plan": "tuner plan Qwen/Qwen3-30B-A3B -- --max-model-len 32768",
    "probe": "tuner probe --python /opt/vllm/bin/python Qwen/Qwen3-30B-A3B",
    "report": "tuner report Qwen/Qwen3-30B-A3B --output report.html",
    "serve": "tuner serve --dry-run Qwen/Qwen3-30B-A3B --max-model-len 32768",
    "tune": "tuner tune Qwen/Qwen3-30B-A3B -- --max-model-len 32768",
    "verdict": "tuner verdict --python /opt/vllm/bin/python Qwen/Qwen3-30B-A3B",
    "verdicts export": "tuner verdicts export 'Qwen*' --output team.jsonl",
    "verdicts forget": "tuner verdicts forget ca8c55f0",
    "verdicts import": "tuner verdicts import team.jsonl --require-signed team.pub",
    "verdicts list": "tuner verdicts list",
    "verdicts show": "tuner verdicts show Qwen3-30B-A3B",
}
"""Command -> an example."""


def add_examples(app: typer.Typer, group: str = "") -> None:
    """Put the examples below the help of an application's commands, and of its groups'.

    Args:
        app: the application.
        group: the words in front of its commands.
    """
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        example = EXAMPLES.get(f"{group} {name}".strip())
        if example is not None and not command.epilog:
            command.epilog = f"\b\nExample:\n  {example}"
    for inner in app.registered_groups:
        if inner.typer_instance is not None:
            add_examples(inner.typer_instance, f"{group} {inner.name}".strip())
