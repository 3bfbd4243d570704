"""Recipes of srt-slurm, and Dynamo's graphs -> check and apply."""

from pathlib import Path as File

from fuzz.checking import MODELS, YAML, Ground, damaged_case, ground_of
from fuzz.mutate import Draw

BACKEND = """name: bench
model: {{path: {model}, container: "vllm/vllm-openai:v0.19.1", precision: fp8}}
resources: {{gpu_type: h200, prefill_nodes: 1, decode_nodes: 2, gpus_per_node: 8}}
environment: {{A: all}}
backend:
  type: vllm
  connector: null
  prefill_environment: {{VLLM_CACHE_ROOT: /cache, B: "1"}}
  vllm_config:
    prefill: &engine
      served-model-name: name
      tensor_parallel_size: 8
      enable-expert-parallel: true
      async-scheduling: false
      gpu-memory-utilization: 0.90
      compilation-config: '{{"cudagraph_mode": "FULL"}}'
    decode:
      <<: *engine
      compilation-config: {{mode: 3, cudagraph_capture_sizes: [1, 2], level: null, fast_moe_cold_start: true}}
      cudagraph-capture-sizes: [1, 2]
"""
ROLES = """schema_version: 2
engine: {{type: vllm}}
identity: {{model: {{repo: {model}}}, container: {{image: "vllm/vllm-openai:v0.19.1"}}}}
model: {{path: x}}
roles:
  prefill: {{args: {{max-model-len: 4096, compilation-config: '{{"mode": 3}}'}}, env: {{A: 1}}}}
  decode: {{args: {{data-parallel-size: 4, enable-expert-parallel: true}}, replicas: 2}}
"""
GRAPH = """apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {{name: graph}}
spec:
  envs: [{{name: A, value: graph}}, {{name: POD, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
  services:
    Frontend:
      extraPodSpec: {{mainContainer: {{image: x, command: [python3, -m, dynamo.frontend]}}}}
    Decode:
      envs: [{{name: VLLM_CACHE_ROOT, value: /cache/vllm}}]
      resources: {{limits: {{gpu: "2"}}}}
      extraPodSpec:
        volumes: [{{name: cache, emptyDir: {{medium: Memory}}}}]
        mainContainer:
          image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.2.0
          command: [python3, -m, dynamo.vllm]
          args: [--model, {model}, --tensor-parallel-size, "2", --port, $(A), --compilation-config, '{{"mode": 3}}']
          volumeMounts: [{{name: cache, mountPath: /cache}}]
    Prefill:
      extraPodSpec:
        mainContainer:
          image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.2.0
          command: [/bin/sh, -c]
          args:
          - >-
            exec python3 -m dynamo.vllm --model {model}
            --is-prefill-worker --compilation-config '{{"mode": 3}}'
---
apiVersion: nvidia.com/v1alpha1
kind: DynamoComponentDeployment
metadata: {{name: worker}}
spec:
  extraPodSpec:
    mainContainer: {{command: [python3, -m, dynamo.vllm], args: [--model, {model}]}}
"""


def ground(folder: File) -> Ground:
    """Each form with each model."""
    return ground_of(folder, [(YAML, text.format(model=model)) for text in (BACKEND, ROLES, GRAPH) for model in MODELS])


def case(draw: Draw, ground: Ground) -> str:
    """One damaged recipe or graph."""
    return damaged_case(draw, ground)
