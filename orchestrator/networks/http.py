"""The playground over HTTP: what Ray Serve runs, in one copy that keeps the networks."""

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
from orchestrator.networks.studio import Studio
from orchestrator.settings.experiment import Experiment
from orchestrator.work.requests import RequestError

HERE = ("127.0.0.1", "localhost")
PAGE, PLACE = "page.html", "{{choices}}"


class Answers:
    """GET / is the page. POST /draw, a JSON object of what `Studio.draw` takes, is answered with
    what it gives, or with status 400 and one line as `error`."""

    def __init__(
        self, source: TrainedRun, begin: Experiment, found: Sequence[str], threads: int
    ) -> None:
        self.studio = Studio(source, begin, found)
        # one thread draws, one request after the other; with another number of torch's threads than
        # `sample` has, or with the one that Ray gives to its workers, sums would round differently
        self.drawing = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))

    async def __call__(self, request: Request) -> Response:
        """The answer to a request."""
        asked = request.method, request.url.path
        if (
            request.url.hostname not in HERE
        ):  # another site's page may have a name that is made to mean this machine
            return PlainTextResponse(
                f"got the host {request.url.hostname}, expected {' or '.join(HERE)}\n", 400
            )
        if asked == ("GET", "/"):
            return HTMLResponse(page(self.studio.choices()))
        if asked != ("POST", "/draw"):
            return PlainTextResponse(f"got {' '.join(asked)}, expected GET / or POST /draw\n", 404)
        try:
            wanted = await _object(request)
            loop = asyncio.get_running_loop()
            return JSONResponse(await loop.run_in_executor(self.drawing, self.studio.draw, wanted))
        except (RequestError, CorruptFileError) as e:
            return JSONResponse({"error": " ".join(str(e).splitlines())}, 400)
        except ConfigError as e:
            return JSONResponse(
                {"error": "; ".join(str(replace(fault, source="")) for fault in e.faults)}, 400
            )


def page(choices: dict[str, Any]) -> str:
    """The page that offers these choices; it needs no other file and no network."""
    told = json.dumps(choices).replace("<", "\\u003c")  # a class may be called </script>
    return (
        files("orchestrator.networks")
        .joinpath(PAGE)
        .read_text(encoding="utf-8")
        .replace(PLACE, told)
    )


async def _object(request: Request) -> dict[str, Any]:
    # other sites' pages may send text here, but no JSON without being asked first whether they may
    kind = request.headers.get("content-type", "nothing")
    if kind.partition(";")[0].strip() != "application/json":
        raise RequestError(f"content-type: got {kind}, expected application/json")
    try:
        wanted = json.loads(await request.body())
    except (ValueError, RecursionError) as e:
        raise RequestError(f"expected a JSON object: {e}") from None
    if not isinstance(wanted, dict):
        raise RequestError(f"got {type(wanted).__name__}, expected a JSON object")
    return wanted
