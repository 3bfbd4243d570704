"""What a hub answers, within one limit of bytes and time for all answers to a question.

The downloads of huggingface_hub bound neither. Only its client, its addresses and its headers are used: they follow its
variables and find the user's token.
"""

import os
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tuner.model.patience import QUESTION_S
from tuner.untrusted.json_text import MAX_BYTES, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION_BYTES = 4 * MAX_BYTES
"""Bytes of all answers to one question."""
MAX_REDIRECTS = 5
_SILENCE_S = 10
"""Seconds for one step of the connection; the time of a whole answer is bounded beside it."""
_FINE = 200


class HubRefusalError(Exception):
    """The hub answered with an error: its HTTP status, and its own code such as `GatedRepo`, or nothing."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"it answered {status}")
        self.status = status
        self.code = code


class UnusableAnswerError(Exception):
    """The hub's answer cannot be used; the message is the end of a sentence."""


class TooLargeError(UnusableAnswerError):
    """The hub's answer is beyond the bounds."""


class Answer(Struct, frozen=True):
    """A whole answer.

    Attributes:
        commit: of the repository, as the hub states it; empty if it does not.
        data: the body.
    """

    commit: str
    data: bytes


class Question:
    """Several requests to the hub that HF_ENDPOINT names, with one limit of bytes and time for all of them."""

    def __init__(self) -> None:
        self._bytes = QUESTION_BYTES
        self._end = time.monotonic() + QUESTION_S

    def file(self, name: str, file: str, revision: str | None) -> Answer:
        """A small file of a repository.

        Raises:
            HubRefusalError: the hub refuses.
            UnusableAnswerError: the answer is beyond the bounds, or cannot be used.
            Exception: there is no answer; the network libraries have no class of error in common.
        """
        from huggingface_hub import hf_hub_url  # noqa: PLC0415  few look-ups ask, and the import is slow

        return self._get(hf_hub_url(name, file, revision=revision, endpoint=_endpoint()))

    def listing(self, name: str, commit: str) -> set[str]:
        """The names of all files of a repository; raises as `file` does."""
        from huggingface_hub import constants  # noqa: PLC0415  as above

        answer = self._get(f"{_endpoint() or constants.ENDPOINT}/api/models/{name}/revision/{commit}")
        try:
            siblings = parse_object(answer.data).get("siblings") or []
            return {str(sibling["rfilename"]) for sibling in siblings}
        except (ValueError, TypeError, KeyError):
            raise UnusableAnswerError("its list of files cannot be read") from None

    def _get(self, url: str) -> Answer:
        from huggingface_hub import constants, get_session  # noqa: PLC0415  as above
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # noqa: PLC0415  documented, but not in a list
            build_hf_headers,
        )

        constants.HF_HUB_DISABLE_TELEMETRY = True
        client = get_session()
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        request = client.build_request("GET", url, headers=headers, timeout=_SILENCE_S)
        commit = ""
        for _ in range(MAX_REDIRECTS):
            response = client.send(request, stream=True, follow_redirects=False)
            try:
                commit = commit or response.headers.get("X-Repo-Commit", "")
                if response.next_request is None:
                    return Answer(commit, self._body(response))
                request = response.next_request
            finally:
                response.close()
        raise UnusableAnswerError(f"it redirects more than {MAX_REDIRECTS} times")

    def _body(self, response: Any) -> bytes:
        """The body of an answer of the network library; that of a refusal is not read."""
        if response.status_code != _FINE:
            raise HubRefusalError(response.status_code, response.headers.get("X-Error-Code", ""))
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UnusableAnswerError("it answers in a compressed form that was not asked for")
        stated = response.headers.get("Content-Length", "")
        if stated.isdecimal() and (len(stated) > len(str(MAX_BYTES)) or int(stated) > MAX_BYTES):
            raise TooLargeError(f"it answers with more than {MAX_BYTES >> 20} MiB")
        return b"".join(self._within_bounds(response.iter_raw()))

    def _within_bounds(self, chunks: "Iterator[bytes]") -> "Iterator[bytes]":
        """The chunks of one body; an answer that nobody waits for any more ends here, too."""
        total = 0
        for chunk in chunks:
            total += len(chunk)
            self._bytes -= len(chunk)
            if total > MAX_BYTES or self._bytes < 0:
                raise TooLargeError(f"it answers with more than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > self._end:
                raise UnusableAnswerError(f"no whole answer within {QUESTION_S:.1f} s")
            yield chunk


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None
