"""Docker Compose files: which they are, and which image the texts of a service run in."""

from collections.abc import Mapping as Table

from tuner.manifests.yaml_source import Mapping, Node, Scalar, walk


def is_compose(document: Node) -> bool:
    """Whether a document that is not a Kubernetes object is a Compose file: it has named `services`."""
    return isinstance(document, Mapping) and isinstance(document.get("services"), Mapping)


def images_of_texts(document: Node) -> Table[int, list[Scalar]]:
    """For each text of a service, by its `id`, the images that run it; several where services share a text."""
    images: dict[int, list[Scalar]] = {}
    services = document.get("services") if isinstance(document, Mapping) else None
    for _, service in services.pairs if isinstance(services, Mapping) else ():
        image = service.get("image") if isinstance(service, Mapping) else None
        if not isinstance(image, Scalar):
            continue
        for node in walk(service):
            users = images.setdefault(id(node), [])
            if all(user.text != image.text for user in users):
                users.append(image)
    return images
