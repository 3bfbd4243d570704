"""Units of systemd and Quadlets of Podman -> check and apply."""

from pathlib import Path as File

from fuzz.checking import MODELS, Ground, damaged_case, ground_of
from fuzz.mutate import Draw

SERVICE = """[Unit]
Description=vllm serve behind a proxy
[Service]
Environment=TP=2 "CC={{\\"mode\\": 3}}"
Environment=VLLM_CACHE_ROOT=/var/cache/%p
EnvironmentFile=-/etc/default/vllm
ExecStartPre=/bin/mkdir -p /var/cache/%p
ExecStart=/opt/venv/bin/vllm serve {model} \\
    --tensor-parallel-size ${{TP}} \\
# behind a comment
    --compilation-config "${{CC}}" $EXTRA
Restart=always
"""
DROP_IN = """[Service]
ExecStart=
ExecStart=-/bin/bash -lc 'exec vllm serve {model} --compilation-config "{{\\\\"mode\\\\": 3}}" --port 8000'
"""
DOCKER = """[Service]
ExecStart=:/usr/bin/docker run --rm --name %n -e HF_TOKEN -p 8000:8000 \\
    vllm/vllm-openai:v0.19.1 --model {model} --seed 50%% ; /bin/true
"""
QUADLET = """[Container]
Image=docker.io/vllm/vllm-openai:v0.19.1
Environment=VLLM_CACHE_ROOT=/cache
Volume=cache.volume:/cache
PodmanArgs=--env A=1 --ipc host --entrypoint "vllm"
Exec=serve {model} --tensor-parallel-size 2 --compilation-config '{{"mode": 3}}'
[Service]
Environment=TP=2
"""
UNITS = {".service": (SERVICE, DOCKER), ".conf": (DROP_IN,), ".container": (QUADLET,)}


def ground(folder: File) -> Ground:
    """A unit of each kind, with each model."""
    return ground_of(
        folder,
        [(end, unit.format(model=model)) for end, units in UNITS.items() for unit in units for model in MODELS],
    )


def case(draw: Draw, ground: Ground) -> str:
    """One damaged unit."""
    return damaged_case(draw, ground)
