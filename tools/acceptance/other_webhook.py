"""Another team's webhook, for the run: it changes pods before ours sees them, or after, or answers that all is well.

.venv/bin/python -m tools.acceptance.other_webhook PORT CERTIFICATE KEY
"""

import base64
import json
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

LABEL = "acceptance/other"
"""Label of a pod that this webhook is asked about; its value is the path."""
SIDECAR, ARGUMENT, LAUNCH, NOTHING = "sidecar", "argument", "launch", "nothing"
ADDED = ("--max-model-len", "4096")
"""Arguments that `argument` gives to the last container."""


def patch_of(change: str, pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON patch of one kind of change; the same pod again gets none.

    Args:
        change: `sidecar`: a container in front of the others; `argument`: arguments behind those of the last container;
            `launch`: a second container like the last one; `nothing`.
        pod: as the API server sends it.
    """
    containers = pod["spec"]["containers"]
    names = {container["name"] for container in containers}
    if change == SIDECAR and SIDECAR not in names:
        return [{"op": "add", "path": "/spec/containers/0", "value": {"name": SIDECAR, "image": "proxy:1"}}]
    if change == ARGUMENT and ADDED[0] not in containers[-1]["args"]:
        path = f"/spec/containers/{len(containers) - 1}/args/-"
        return [{"op": "add", "path": path, "value": word} for word in ADDED]
    if change == LAUNCH and LAUNCH not in names:
        like = {name: containers[-1][name] for name in ("image", "command")}
        # The launch without what another webhook may have written behind the model.
        second = {**like, "name": LAUNCH, "args": [*containers[-1]["args"][:1], "--port", "8001"]}
        return [{"op": "add", "path": "/spec/containers/-", "value": second}]
    return []


async def _review(request: Request) -> JSONResponse:
    review = await request.json()
    admission = review["request"]
    patch = patch_of(request.path_params["change"], admission["object"])
    answer = {"uid": admission["uid"], "allowed": True}
    if patch:
        answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
    return JSONResponse({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer})


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({})


def main() -> None:
    """Serve until it is stopped."""
    port, certificate, key = sys.argv[1:]
    routes = [Route("/healthz", _health), Route("/{change}", _review, methods=["POST"])]
    uvicorn.run(
        Starlette(routes=routes),
        port=int(port),
        http="h11",
        loop="asyncio",
        ws="none",
        access_log=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


if __name__ == "__main__":
    main()
