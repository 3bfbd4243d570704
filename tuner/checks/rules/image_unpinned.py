"""An image whose name does not say which vLLM serves."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.manifests.image import parse_image


def _problems(examined: Examined) -> Iterator[Problem]:
    image = examined.launch.image
    if image and not parse_image(image).pinned and "$" not in image:
        message = f"The image {image} is not pinned: which vLLM serves may change with every pull. Name a release."
        yield Problem(message, examined.launch.image_line)


RULE = Rule(
    "image-unpinned",
    Severity.WARNING,
    "The image's name does not say which vLLM will serve.",
    of_launch=_problems,
    names_basis=False,
)
