"""What the name of an image says: its vLLM and torch, and nothing where the tag counts something else."""

import pytest

from rules.releases import OFFICIAL_TORCH, RELEASES
from tuner.manifests.image import parse_image


@pytest.mark.parametrize(
    ("image", "vllm"),
    [
        ("vllm/vllm-openai:v0.19.1", "0.19.1"),
        ("vllm/vllm-openai:v0.19.1-cu130-ubuntu2404", "0.19.1"),
        ("docker.io/vllm/vllm-openai:v0.19.1@sha256:" + "0" * 64, "0.19.1"),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.18.0", "0.18.0"),
        ("registry.example.com:5000/ai/vllm-openai:v0.10.2-cu128", "0.10.2"),
        ("registry.example.com/ai/vllm-openai:v0.10.2-nixl", "0.10.2"),
        ("mirror.example.com/vllm/vllm-openai-rocm:v0.20.0", "0.20.0"),
        ("vllm-openai:0.17.1", "0.17.1"),
        ("vllm/vllm-openai:v0.10.1.1", "0.10.1.1"),
        ("registry.example.com/ai/vllm-openai:V0.10.2", "0.10.2"),
        ("registry.example.com/ai/vllm-openai:v0.10", None),
        ("registry.example.com/ai/vllm-openai:cu128-v0.10.2", None),
        ("rocm/vllm:rocm7.0.0_vllm_0.11.1_20251103", "0.11.1"),
        ("lmcache/vllm-openai:v0.3.7-vllm-0.10.1", "0.10.1"),
        ("lmcache/vllm-openai:v0.3.9", None),
        ("ghcr.io/llm-d/llm-d-cuda:v0.3.1", None),
        ("nvcr.io/nvidia/vllm:25.10-py3", None),
        ("registry.example.com/mirror/vllm:0.10.2-gpu-py312", None),
        ("registry.example.com/my-vllm-openai:v0.10.2", None),
        ("vllm/vllm-openai:nightly-0123abc", None),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai", None),
    ],
)
def test_the_version_that_a_tag_names(image: str, vllm: str | None) -> None:
    """Known for vLLM's own images, for mirrors with their names, and where the tag names vLLM; else unknown."""
    assert parse_image(image).vllm == vllm


@pytest.mark.parametrize(
    ("image", "torch"),
    [
        ("vllm/vllm-openai:v0.19.1", "2.10.0"),
        ("registry.example.com/ai/vllm-openai:v0.20.1-cu128", "2.11.0"),
        ("vllm/vllm-openai:v0.33.0-cu130-ubuntu2404", "2.14.0"),
        ("vllm/vllm-openai:v0.19.2", None),
        ("vllm/vllm-openai:v0.20.0rc1", None),
        ("vllm/vllm-openai-cpu:v0.20.0", None),
        ("vllm/vllm-openai-rocm:v0.20.0", None),
        ("rocm/vllm:rocm7.0.0_vllm_0.20.0_20251103", None),
        ("vllm/vllm-openai:latest", None),
    ],
)
def test_the_torch_of_an_official_image(image: str, torch: str | None) -> None:
    """Each release for CUDA is built for one torch; nothing is said of other platforms and of releases not listed."""
    assert parse_image(image).torch == torch


def test_the_torch_of_every_release_that_was_read() -> None:
    """No row of the table of releases lacks its torch."""
    assert [row.version for row in RELEASES if row.version not in OFFICIAL_TORCH] == []
