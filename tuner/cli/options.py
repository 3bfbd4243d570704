"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.choices import CacheDirIn
from tuner.exports.choices import Wrap

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A folder with a config.json, or a hub id.")]
VllmArgs = Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM ARGS]", help="Arguments of `vllm serve`.")]
Python = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        envvar="TUNER_PYTHON",
        help="Python of the serving environment. Default: the one behind `vllm` on PATH.",
    ),
]
EnvironmentFile = Annotated[
    Path | None, typer.Option("--environment", metavar="FILE", help="A saved `tuner env --json` in its place.")
]
Store = Annotated[
    str | None,
    typer.Option(metavar="FILE", envvar="TUNER_STORE", help="The verdict store. Default: in the XDG data folder."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="List every launch that was traced, in place of their number.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Revision = Annotated[str | None, typer.Option(metavar="REV", help="Hub revision of the model.")]
ModelImpl = Annotated[str, typer.Option(metavar="IMPL", help="As `vllm serve --model-impl`.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code from the model's folder.")]
AcceptPlatform = Annotated[
    str | None,
    typer.Option(
        metavar="PLATFORM",
        envvar="TUNER_ACCEPT_PLATFORM",
        help="Where this one has no verdict, let PLATFORM's decide (such as cpu).",
    ),
]
FailOnUnknown = Annotated[
    bool, typer.Option("--fail-on-unknown", help="Refuse a launch where the flag may be on and is not proved safe.")
]
Enforce = Annotated[bool, typer.Option("--enforce", help="Refuse a value of yours that an unsafe verdict contradicts.")]
CacheRoot = Annotated[
    str | None, typer.Option(metavar="DIR", envvar="TUNER_CACHE_ROOT", help="Set VLLM_CACHE_ROOT to this folder.")
]
CacheDir = Annotated[
    CacheDirIn, typer.Option(help="config: write compilation_config.cache_dir, a folder keyed by the whole launch.")
]

Image = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="Of the server. Default: vLLM's own, in the plan's release.")
]
Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="Of the service. Default: vllm-moe-tuner.")]
CaBundle = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The authority of the service's certificate. Default: cert-manager makes both."),
]
OptionalModel = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="A folder with a config.json, or a hub id; for most formats.")
]
ObjectName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the objects. Default: made of the model's name.")
]
Container = Annotated[
    str | None, typer.Option(metavar="NAME", help="The container that a patch changes. Default: vllm.")
]
PatchWrap = Annotated[
    Wrap | None,
    typer.Option("--wrap", help="For kustomize, or for llm-d's guides. Default: the patch as it is."),
]
Nodes = Annotated[int | None, typer.Option(metavar="N", min=1, help="That a model spans. Default: pipeline stages.")]
ModelUri = Annotated[str | None, typer.Option(metavar="URI", help="Where KServe fetches the model. Default: the hub.")]
ServedModel = Annotated[
    str | None,
    typer.Option("--model-name", metavar="NAME", help="What the server calls MODEL, such as its path in a container."),
]
WeightsClaim = Annotated[
    str | None, typer.Option(metavar="NAME", help="The claim with the weights, or one that keeps what is fetched.")
]
ColdStart = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=1,
        help="A measured cold start, for the startupProbe. Default: what `tuner cache warm` recorded, if that is here.",
    ),
]
JobService = Annotated[
    str | None, typer.Option("--service", metavar="URL", help="With sweep-job: the service whose probes it runs.")
]
JobWorkers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="With sweep-job: pods. Default: 1.")
]
JobPlatform = Annotated[
    str | None, typer.Option("--platform", metavar="PLATFORM", help="With sweep-job: of its devices. Default: cuda.")
]
JobQueue = Annotated[
    str | None, typer.Option("--kueue", metavar="QUEUE", help="With sweep-job: the queue of Kueue that starts it.")
]
CachesRoot = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        envvar="TUNER_CACHE_ROOT",
        help="The caches' folder. Default: VLLM_CACHE_ROOT, else vLLM's own default.",
    ),
]
