"""The playground over HTTP: Ray Serve runs one replica of it, which keeps the networks loaded."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from kaccore.files import CorruptFileError
from orchestrator.fields.faults import ConfigError
from orchestrator.networks.locate import TrainedRun
from orchestrator.networks.playground import Playground
from orchestrator.settings.experiment import Experiment
from orchestrator.work.requests import RequestError

HERE = ("127.0.0.1", "localhost")
PAGE, PLACEHOLDER = "page.html", "{{choices}}"


class PlaygroundServer:
    """GET / is the page. POST /draw takes a JSON object with the fields of `Playground.draw` and
    answers with its result, or with status 400 and one line as `error`."""

    def __init__(
        self, run: TrainedRun, begin: Experiment, arguments: Sequence[str], threads: int
    ) -> None:
        self.playground = Playground(run, begin, arguments)
        # one thread draws, one request after the other; with another number of torch threads than
        # `sample` has, such as Ray's default of one for its workers, sums would round differently
        self.executor = ThreadPoolExecutor(
            1, initializer=torch.set_num_threads, initargs=(threads,)
        )

    async def __call__(self, request: Request) -> Response:
        """The answer to a request."""
        endpoint = request.method, request.url.path
        if request.url.hostname not in HERE:  # against DNS rebinding
            return PlainTextResponse(
                f"got the host {request.url.hostname}, expected {' or '.join(HERE)}\n", 400
            )
        if endpoint == ("GET", "/"):
            return HTMLResponse(page(self.playground.choices()))
        if endpoint != ("POST", "/draw"):
            return PlainTextResponse(
                f"got {' '.join(endpoint)}, expected GET / or POST /draw\n", 404
            )
        try:
            settings = await _json_object(request)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self.executor, self.playground.draw, settings)
            return JSONResponse(answer)
        except (RequestError, CorruptFileError) as e:
            return JSONResponse({"error": " ".join(str(e).splitlines())}, 400)
        except ConfigError as e:
            lines = "; ".join(str(replace(fault, source="")) for fault in e.faults)
            return JSONResponse({"error": lines}, 400)


def page(choices: dict[str, Any]) -> str:
    """The page that offers these choices; it needs no other file and no network connection."""
    text = json.dumps(choices).replace("<", "\\u003c")  # a class name may be </script>
    template = files("orchestrator.networks").joinpath(PAGE).read_text(encoding="utf-8")
    return template.replace(PLACEHOLDER, text)


async def _json_object(request: Request) -> dict[str, Any]:
    # browsers let other sites' pages send text here, but JSON only after a preflight request
    kind = request.headers.get("content-type", "nothing")
    if kind.partition(";")[0].strip() != "application/json":
        raise RequestError(f"content-type: got {kind}, expected application/json")
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError) as e:
        raise RequestError(f"expected a JSON object: {e}") from None
    if not isinstance(content, dict):
        raise RequestError(f"got {type(content).__name__}, expected a JSON object")
    return content
