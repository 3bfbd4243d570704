"""Configurations of Ray Serve LLM, alone and in a RayService -> check and apply."""

from pathlib import Path as File

from fuzz.checking import MODELS, YAML, Ground, damaged_case, ground_of
from fuzz.mutate import Draw

APPLICATIONS = """proxy_location: EveryNode
http_options: {{host: 0.0.0.0, port: 8000}}
applications:
- name: llm
  route_prefix: /
  import_path: ray.serve.llm:build_openai_app
  args:
    llm_configs:
    - model_loading_config: {{model_id: short, model_source: {model}}}
      accelerator_type: H100
      runtime_env: {{env_vars: {{VLLM_CACHE_ROOT: /cache, VLLM_USE_V1: "1"}}}}
      deployment_config: {{autoscaling_config: {{min_replicas: 1, max_replicas: 2}}}}
      engine_kwargs:
        tensor_parallel_size: 2
        enable_prefix_caching: false
        trust_remote_code: true
        compilation_config: {{mode: 3, fast_moe_cold_start: true}}
        speculative_config: null
    - model_loading_config: {{model_id: {model}}}
      llm_engine: vLLM
    - model_loading_config: {{model_id: x, model_source: {{bucket_uri: "s3://bucket/model"}}}}
"""
SERVICE = """apiVersion: ray.io/v1
kind: RayService
metadata: {{name: llm}}
spec:
  serveConfigV2: |
{applications}
  rayClusterConfig:
    headGroupSpec:
      rayStartParams: {{num-cpus: "0"}}
      template:
        spec:
          containers:
          - name: ray-head
            image: rayproject/ray-llm:2.46.0-py311-cu124
            ports: [{{containerPort: 8000, name: serve}}]
"""
PYTHON_APPLICATION = """applications:
- import_path: serve:deployment
  args:
    model: {model}
    tensor-parallel-size: 2
  runtime_env: {{pip: ["vllm==0.19.1"], env_vars: {{MODEL_ID: {model}}}}}
- import_path: ray.serve.llm:build_openai_app
  args: {{llm_configs: [{{model_loading_config: {{model_id: {model}}}, engine_kwargs: {{max_model_len: 4096}}}}]}}
"""


def ground(folder: File) -> Ground:
    """Each form with each model; in a RayService the configuration is a text."""
    texts = [text.format(model=model) for text in (APPLICATIONS, PYTHON_APPLICATION) for model in MODELS]
    for text in tuple(texts):
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        texts.append(SERVICE.format(applications=indented))
    return ground_of(folder, [(YAML, text) for text in texts])


def case(draw: Draw, ground: Ground) -> str:
    """One damaged configuration."""
    return damaged_case(draw, ground)
