"""What the name of a container image says: its version, its platform, what it starts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rules.releases import OFFICIAL_TORCH, parse_version

_MOVING = re.compile(r"latest|nightly|main|master|dev|edge|stable|head|ci", re.IGNORECASE)
_OFFICIAL = re.compile(
    r"(?:^|/)(?:vllm/(?P<name>vllm-openai|vllm-openai-cpu|vllm-openai-rocm|vllm-openai-xpu|vllm-tpu)"
    r"|(?P<ecr>vllm-cpu-release-repo)|ascend/(?P<ascend>vllm-ascend))$"
)
"""Where vLLM's own images are published."""
_PLATFORMS = {
    "vllm-openai": "cuda",
    "vllm-openai-cpu": "cpu",
    "vllm-openai-rocm": "rocm",
    "vllm-openai-xpu": "xpu",
    "vllm-tpu": "tpu",
    "vllm-cpu-release-repo": "cpu",
    "vllm-ascend": "oot:ascend",
}
_SERVES = re.compile(r"(?:^|/)(?:vllm-openai(?:-[a-z]+)?|vllm-cpu-release-repo)$")
_CALLED_VLLM = re.compile(r"(?:^|/)(?:[^/]*vllm[^/]*|llm-d(?:-\w+)*)$", re.IGNORECASE)
_SERVER_OPTION = re.compile(r"--(?:model|served-model-name|tensor-parallel-size|max-model-len)(?:=.*)?", re.DOTALL)
_OWN_NAME = re.compile(r"(?:^|/)(?:vllm-openai(?:-[a-z]+)?|vllm-tpu|vllm-cpu-release-repo|vllm-ascend)$")
"""Names of vLLM's own images; a mirror keeps name and tag, and a rebuild adds to the tag."""
_LOOSE_NAME = re.compile(r"(?:^|/)vllm$")
"""A name that others give to images of vLLM; NVIDIA's have it too, and count months."""
_COUNTS_ITS_OWN = re.compile(r"(?:^|/)lmcache/vllm-openai$")
"""Its tag is a release of LMCache."""
_CUDA_NAME = re.compile(r"(?:^|/)vllm-openai$")
_VERSION = r"[vV]?(\d+\.\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)?)(?:$|[-_+])"
_RELEASE = re.compile(_VERSION)
_LATER_IN_TAG = re.compile(r"[-_.]v(\d+\.\d+(?:\.\d+){0,2}(?:\.?(?:post|rc|dev)\d+)?)(?:$|[-_+])")
_SERIES = re.compile(r"[vV]?(0\.\d+)(?:$|[-_+])")
"""A series of releases; they all begin with a zero, and other numbers of two parts are dates or versions of CUDA."""
_VLLM_IN_TAG = re.compile(rf"(?:^|[-_.+])vllm[-_.]?{_VERSION}")
"""As in `rocm/vllm:rocm7.0.0_vllm_0.11.1_20251103`."""


@dataclass(frozen=True)
class Image:
    """A container image.

    Attributes:
        repository: registry and path.
        tag: empty if there is none.
        digest: empty if there is none.
    """

    repository: str
    tag: str
    digest: str

    @property
    def pinned(self) -> bool:
        """Whether its name says which build it is: by digest, or by a tag that does not move."""
        if self.digest:
            return True
        first = re.split(r"[-_.]", self.tag)[0]
        nightly_of_a_day = bool(re.search(r"\d{4}-?\d{2}-?\d{2}|[0-9a-f]{7,40}", self.tag))
        return bool(self.tag) and (not _MOVING.fullmatch(first) or nightly_of_a_day)

    @property
    def vllm(self) -> str | None:
        """The vLLM version in the tag, of vLLM's own images, of their mirrors, and where the tag names vLLM.

        None for images that count versions of their own, as lmcache's do, and for all other names.
        """
        named = _VLLM_IN_TAG.search(self.tag)
        own = _OWN_NAME.search(self.repository) and not _COUNTS_ITS_OWN.search(self.repository)
        return _version(named or (_RELEASE.match(self.tag) if own else None))

    @property
    def stated_vllm(self) -> str | None:
        """The vLLM version that the tag states, of images called `vllm` too, and behind other words of the tag.

        A series such as 0.19 is one as well. It is enough to contradict another version, and not to rely on: who calls
        an image so may count otherwise.
        """
        if self.vllm or _COUNTS_ITS_OWN.search(self.repository):
            return self.vllm
        if _OWN_NAME.search(self.repository):
            return _version(_SERIES.match(self.tag) or _LATER_IN_TAG.search(self.tag))
        return _version(_RELEASE.match(self.tag) if _LOOSE_NAME.search(self.repository) else None)

    @property
    def torch(self) -> str | None:
        """The torch version in vLLM's image for CUDA of this release; None for any other image, and if it is not known.

        A vLLM that is built for one torch runs with no other, so mirrors and rebuilds have the same.
        """
        return OFFICIAL_TORCH.get(self.vllm or "") if _CUDA_NAME.search(self.repository) else None

    def __str__(self) -> str:
        """As it is written in a manifest."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def platform(self) -> str | None:
        """The platform it is built for; None if its name does not say."""
        match = _OFFICIAL.search(self.repository)
        return _PLATFORMS[match["name"] or match["ecr"] or match["ascend"]] if match else None

    @property
    def serves(self) -> bool:
        """Its entrypoint is `vllm serve` or vLLM's server module (vLLM's docker/Dockerfile, target vllm-openai)."""
        return bool(_SERVES.search(self.repository))


def parse_image(text: str) -> Image:
    """Read `[registry/]path[:tag][@digest]`."""
    name, _, digest = text.strip().partition("@")
    head, slash, tail = name.rpartition("/")
    last, _, tag = tail.partition(":")
    return Image(head + slash + last, tag, digest)


def _version(match: re.Match[str] | None) -> str | None:
    """The version in the first group; None if there is none, or if it cannot be read."""
    return match[1] if match and parse_version(match[1]) else None


def seems_to_serve(image: str, arguments: Iterable[str]) -> bool:
    """Whether an image of another name than vLLM's own seems to start vLLM; its entrypoint is not known.

    It is called after vLLM, and gets options of vLLM's server.
    """
    is_named = bool(_CALLED_VLLM.search(parse_image(image).repository))
    return is_named and any(_SERVER_OPTION.fullmatch(argument) for argument in arguments)
