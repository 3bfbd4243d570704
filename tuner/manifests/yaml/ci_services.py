"""Launches in the services of workflows: containers that GitHub and GitLab start beside the steps of a job.

GitHub: `jobs.JOB.services.NAME` (docs.github.com, "Workflow syntax for GitHub Actions"; actions/runner,
DockerCommandManager.cs, which runs `docker create OPTIONS IMAGE COMMAND`). GitLab: `services` of a job, of `default`,
or of the file (docs.gitlab.com, "Services").
"""

from collections.abc import Iterator
from dataclasses import replace

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.shell.launches import embedded_launches, vector_arguments
from tuner.manifests.yaml.kubernetes import arguments_of, environment_of, hidden_in
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, Sequence, items_of, text_of

_SCRIPTS = ("script", "extends", "trigger")
"""Keys of GitLab's jobs."""


def github_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches of the services of GitHub's workflows; none for documents of other kinds."""
    for job_name, job in _pairs(reading.document, "jobs"):
        for name, service in _pairs(job, "services"):
            reading.mark(service)
            yield from _github_service(service, f"{job_name}/{name}")


def _github_service(service: Node, name: str) -> Iterator[ManifestLaunch]:
    """The launches of one service, by the command that the runner makes for it; its places cannot be edited."""
    image = _setting(service, "image") or service
    if not text_of(image):
        return
    options, command = _setting(service, "options"), _setting(service, "command")
    entrypoint = text_of(_setting(service, "entrypoint"))
    flag = f"--entrypoint {entrypoint}" if entrypoint else None
    words = ["docker create", text_of(options), flag, text_of(image), text_of(command)]
    line = " ".join(filter(None, words)).replace("\n", " ")
    env = environment_of(_setting(service, "env"))
    for launch in embedded_launches(line, (command or image).line, shape="GitHub service"):
        # Its ports and volumes are keys of their own, and it runs for one job.
        yield replace(launch, name=name, image_line=image.line, env={**env, **launch.env}, pod=None)


def gitlab_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches of the services of GitLab's pipelines; none for documents of other kinds."""
    document = reading.document
    jobs = [("", document), *document.pairs] if isinstance(document, Mapping) else []
    if not any(_has_script(job) for _, job in jobs[1:]):
        return
    for job_name, job in jobs:
        services = job.get("services") if isinstance(job, Mapping) else None
        for service in items_of(services):
            reading.mark(service)
            yield from _gitlab_service(service, job_name)


def _has_script(job: Node) -> bool:
    return isinstance(job, Mapping) and any(job.get(key) for key in _SCRIPTS)


def _gitlab_service(service: Node, job_name: str) -> Iterator[ManifestLaunch]:
    image = _setting(service, "name") or service
    if not text_of(image):
        return
    entrypoint, command = _setting(service, "entrypoint"), _setting(service, "command")
    arguments = _arguments(command)
    words = vector_arguments([*_arguments(entrypoint), *arguments])
    if words is None and entrypoint is None and parse_image(text_of(image) or "").serves:
        words = tuple(arguments)
    if words is not None:
        hidden = "" if command is None or isinstance(command, Sequence) else "a command that is not a list"
        name = "/".join(filter(None, [job_name, text_of(image)]))
        yield ManifestLaunch(
            "GitLab service",
            name,
            (command or image).line,
            words,
            image=text_of(image),
            image_line=image.line,
            env=environment_of(_setting(service, "variables")),
            hidden=hidden or hidden_in(words),
        )


def _setting(service: Node, key: str) -> Node | None:
    """What a service says of a key; one that is a text is the name of its image alone."""
    return service.get(key) if isinstance(service, Mapping) else None


def _arguments(vector: Node | None) -> list[Argument]:
    """The items of a list; GitLab fills variables in, which may be set anywhere."""
    return [replace(word, unknown=word.unknown or "$" in word.text) for word in arguments_of(vector)]


def _pairs(node: Node | None, key: str) -> list[tuple[str, Node]]:
    """The entries of a mapping below a key; none where there is no such mapping."""
    below = node.get(key) if isinstance(node, Mapping) else None
    return below.pairs if isinstance(below, Mapping) else []
