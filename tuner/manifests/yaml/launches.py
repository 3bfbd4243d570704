"""Launches in YAML files: every document is shown to every reader, the most special one first."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tuner.manifests.excerpt import Excerpt
from tuner.manifests.launch import RAY_SERVE, ManifestLaunch
from tuner.manifests.yaml.ci_services import github_launches, gitlab_launches
from tuner.manifests.yaml.compose import compose_launches
from tuner.manifests.yaml.documents import read_documents
from tuner.manifests.yaml.dynamo import dynamo_launches
from tuner.manifests.yaml.gpu_group import group_of
from tuner.manifests.yaml.helm import helm_launches, runtime_launches
from tuner.manifests.yaml.kserve import kserve_launches
from tuner.manifests.yaml.kubernetes import kind_of, list_launches, pod_launches
from tuner.manifests.yaml.ray_serve import ray_serve_launches
from tuner.manifests.yaml.reading import MAX_WORDS, Reader, Reading
from tuner.manifests.yaml.serve_config import serve_config_launches
from tuner.manifests.yaml.source import Mapping, Node, Scalar, is_switched_off, text_of, walk
from tuner.manifests.yaml.srt_slurm import srt_slurm_launches
from tuner.manifests.yaml.texts import text_launches

READERS: tuple[Reader, ...] = (
    compose_launches,
    github_launches,
    gitlab_launches,
    kserve_launches,
    dynamo_launches,
    srt_slurm_launches,
    ray_serve_launches,
    serve_config_launches,
    helm_launches,
    runtime_launches,
    pod_launches,
    list_launches,
)
"""Each yields the launches of one kind of document, and marks what it has read; the last read what the others left."""


def yaml_launches(text: str, excerpt: Excerpt | None = None, depth: int = 0) -> Iterator[ManifestLaunch]:
    """The launches in a YAML text.

    Args:
        text: the file.
        excerpt: the part of it that is YAML; None: all of it.
        depth: in how many other texts the part stands.

    Raises:
        ValueError: it is not YAML; the message says where.
    """
    documents = read_documents(text if excerpt is None else excerpt.text, excerpt)
    if excerpt is not None:
        documents = [document for document in documents if not isinstance(document, Scalar)]  # sentences
    config_maps = _config_maps(documents)
    readings = [Reading(text, document, config_maps, depth=depth) for document in documents]
    for reading in readings:
        parts = (node for node in walk(reading.document) if node is not reading.document)
        reading.mark(*(node for node in parts if is_switched_off(node)))
    launches = _bounded(_read(readings))
    yield from launches
    used = set(_config_texts(launches))
    for reading in readings:
        yield from _of_cluster(reading, text_launches(reading, yaml_launches, used))


def _of_cluster(reading: Reading, launches: Iterable[ManifestLaunch]) -> Iterator[ManifestLaunch]:
    """Launches in texts of a document; those of Ray Serve may take the GPUs of the cluster that the document states."""
    group = group_of(reading.document, kind_of(reading.document))
    for launch in launches:
        is_served = launch.shape == RAY_SERVE and launch.gpu_group is None
        yield replace(launch, gpu_group=group) if is_served else launch


def _read(readings: Iterable[Reading]) -> Iterator[ManifestLaunch]:
    """What each reader reads of each document."""
    for reading in readings:
        for reader in READERS:
            yield from reader(reading)


def _bounded(launches: Iterable[ManifestLaunch]) -> list[ManifestLaunch]:
    """The launches; aliases can make many long ones of a short file.

    Raises:
        ValueError: they have more than `MAX_WORDS` arguments.
    """
    bounded: list[ManifestLaunch] = []
    words = 0
    for launch in launches:
        words += len(launch.words)
        if words > MAX_WORDS:
            raise ValueError(f"its launches have more than {MAX_WORDS} arguments")
        bounded.append(launch)
    return bounded


def _config_texts(launches: Sequence[ManifestLaunch]) -> Iterator[str]:
    """The texts of the files for `--config` that the document set holds and launches name."""
    for launch in launches:
        for word, value in pairwise([*launch.args, ""]):
            option, equals, attached = word.partition("=")
            path = attached if equals else value
            if option == "--config" and path in launch.files:
                yield launch.files[path]


def _config_maps(documents: Sequence[Node]) -> dict[str, dict[str, str]]:
    """The texts of every ConfigMap, by its name and their keys."""
    config_maps: dict[str, dict[str, str]] = {}
    for document in documents:
        data = document.get("data") if isinstance(document, Mapping) else None
        if kind_of(document) == "ConfigMap" and isinstance(document, Mapping) and isinstance(data, Mapping):
            name = text_of(document.get("metadata", "name")) or ""
            config_maps[name] = {key: value.text for key, value in data.pairs if isinstance(value, Scalar)}
    return config_maps
