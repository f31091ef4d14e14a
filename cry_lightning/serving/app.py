"""`python -m cry_lightning serve`: a page for people, and REST for programs."""

import json
import logging
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import pandas as pd
import uvicorn
from fastapi import Depends, FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as Uploaded
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

import cry_lightning
from cry_lightning.console import UserError, on_one_line, printable, stopped_by
from cry_lightning.files import Json
from cry_lightning.inference.decisions import UNLIKE, UNSURE
from cry_lightning.inference.output import Row, as_csv, as_records
from cry_lightning.serving.guard import Connection, Guard, Limits
from cry_lightning.serving.picture import picture
from cry_lightning.serving.service import USE, Answer, Service, shown_name
from cry_lightning.serving.words import WORDS

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = {"page.css": "text/css", "page.js": "text/javascript"}
LONGEST = 300  # characters of a reason
MOST_BYTES = 5_000_000  # of rows that come back from a page, some 20,000
Language = Literal["en", "de"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_CONNECTIONS = 1000
NO_FILE = "send a form (multipart/form-data) with one file of this name, and its filename, as curl -F file=@night.wav"
GRACE_S = 5  # for requests that are under way when the server is stopped


class Prediction(BaseModel):
    """What is predicted for one recording; the columns are those of `predict`."""

    rows: list[Row]
    recording: Row


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


REFUSALS: dict[int | str, Json] = {
    400: {"model": Problem, "description": "called by a name that is not its own, or a damaged form"},
    403: {"model": Problem, "description": "a web page of another address"},
    408: {"model": Problem, "description": "the request did not come in whole"},
    413: {"model": Problem, "description": "too large"},
    422: {"model": Problem, "description": "no sound that can be used, or too long"},
    429: {"model": Problem, "description": "too many requests a minute; Retry-After says when"},
    500: {"model": Problem, "description": "an error of the program"},
    503: {"model": Problem, "description": "too many requests at once; Retry-After says when"},
}
OF_READING: dict[int | str, Json] = {status: REFUSALS[status] for status in (400, 500)}


async def the_one(
    request: Request, file: Annotated[UploadFile, File(description="a recording of any container")]
) -> UploadFile:
    """The only recording of a form, of which all else would be passed over.

    Raises:
        UserError: there is more in it.
    """
    parts = (await request.form()).multi_items()
    if (n := sum(name == "file" or isinstance(part, Uploaded) for name, part in parts)) > 1:
        raise UserError(f"{n} recordings in one request; send one at a time")
    if others := [name for name, _ in parts if name != "file"]:
        raise UserError(f"{others[0]}: the form has the file alone; arguments belong in the address, as ?detect=true")
    return file


Sound = Annotated[UploadFile, Depends(the_one)]


def app_of(service: Service, limits: Limits, hosts: Sequence[str], language: Language) -> FastAPI:
    """The server's application.

    Args:
        service: what answers.
        limits: of requests.
        hosts: names by which the server may be called; under any other, a page elsewhere could reach it.
        language: of the page, where its address names none.
    """
    app = FastAPI(
        title="cry_lightning",
        summary=f"A trained classifier of recordings: {USE}.",
        version=cry_lightning.__version__,
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    app.add_exception_handler(UserError, _unusable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    _add_rest(app, service, limits)
    _add_page(app, service, limits, language)
    return app


def _add_rest(app: FastAPI, service: Service, limits: Limits) -> None:
    about = service.about() | {"max_mb": limits.max_mb, "max_seconds": service.max_seconds}

    @app.post("/api/predict", responses=REFUSALS)
    def predict(file: Sound, detect: bool = False) -> Prediction:
        """What the model says of a recording, by window or, with detect, by cry."""
        answer = service.answer(file.file, shown_name(file.filename), detect)
        return Prediction(rows=as_records(answer.rows), recording=answer.recording)

    @app.head("/api/health", include_in_schema=False)
    @app.get("/api/health", responses=OF_READING)
    async def health() -> dict[str, str]:
        """Whether the server is there."""
        return {"status": "ok"}

    @app.head("/api/model", include_in_schema=False)
    @app.get("/api/model", responses=OF_READING)
    async def model() -> Json:
        """Classes, windows, thresholds, and what the test of the model is worth."""
        return about

    rows = {"type": "array", "items": {"type": "object"}}
    body = {"requestBody": {"required": True, "content": {"application/json": {"schema": rows}}}}

    @app.post("/api/csv", responses=REFUSALS, response_class=Response, openapi_extra=body)
    async def csv(request: Request) -> Response:
        """Rows, of several recordings too, as the table that predict writes; all have the same columns."""
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MOST_BYTES:
                raise HTTPException(413, f"rows of more than {MOST_BYTES / 1e6:g} MB; send fewer at once")
        text = await run_in_threadpool(lambda: as_csv(table_of(bytes(content))))
        headers = {"content-disposition": 'attachment; filename="cries.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def table_of(content: bytes) -> pd.DataFrame:
    """The table of a JSON list of rows, which all have the columns of the first; `path` is one of them.

    Raises:
        UserError: it is something else, naming the first row that is at fault.
    """
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"no JSON: {error}") from error
    if not isinstance(rows, list):
        raise UserError("no list of rows")
    columns = list(rows[0]) if rows and isinstance(rows[0], dict) else []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise UserError(f"row {number} has no path")
        if row.keys() != set(columns):
            raise UserError(f"row {number} has other columns than the first")
        if odd := [name for name, value in row.items() if not isinstance(value, str | int | float | None)]:
            raise UserError(f"row {number}: {odd[0]} is no text and no number")
    cells = [
        {printable(name): printable(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(cells, columns=None if rows else ["path"])


def _add_page(app: FastAPI, service: Service, limits: Limits, language: Language) -> None:
    environment = Environment(
        loader=PackageLoader("cry_lightning.serving"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    about = service.about()

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page(language: Language = language) -> HTMLResponse:
        html = environment.get_template("page.html").render(
            language=language,
            words=WORDS[language],
            languages=WORDS,
            about=about,
            limits=limits,
            max_seconds=service.max_seconds,
        )
        return HTMLResponse(html)

    @app.head("/assets/{name}", include_in_schema=False)
    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in ASSETS:
            raise HTTPException(404, "no such file")
        return FileResponse(TEMPLATES / name, media_type=ASSETS[name])

    @app.post("/page/result", include_in_schema=False)
    def result(
        file: Sound, detect: bool = True, language: Language = language, width: Annotated[int, Query(ge=0)] = 700
    ) -> Json:
        name = shown_name(file.filename)
        answer = service.answer(file.file, name, None if detect else False, picture=True)
        html = environment.get_template("result.html").render(
            _shown(answer, name, service, language, width), cautions=_cautions(about, WORDS[language])
        )
        said = _said(answer.recording, WORDS[language])
        recording = {"path": name, "windows": None, "units": None} | answer.recording  # all of the same columns
        return {"name": name, "said": said, "html": html, "rows": as_records(answer.rows), "recording": recording}


def _shown(answer: Answer, name: str, service: Service, language: Language, width: int) -> Json:
    """What the template of a result needs."""
    recording, waveform = answer.recording, answer.waveform
    classes = service.trained.classes or []
    known = recording["novelty"] is not None
    column = "calibrated_" if known and recording[f"calibrated_{classes[0]}"] is not None else "score_"
    chances = [(each, recording[column + each]) for each in classes if recording[column + each] is not None]
    drawn = picture(waveform, service.rate, answer.depends, answer.spans, width) if waveform.size else None
    return {
        "name": name,
        "words": WORDS[language],
        "recording": recording,
        "rows": [row | {"quiet": quiet} for row, quiet in zip(as_records(answer.rows), answer.quiet, strict=True)],
        "n_quiet": sum(answer.quiet),
        "of_cries": answer.of_cries,
        "known": known,
        "chances": chances,
        "column": column,
        "said": _said,
        "unlike": recording["abstained"] == UNLIKE,
        "picture": drawn,
        "seconds": round(waveform.size / service.rate, 1),
        "cut": answer.cut,
    }


def _cautions(about: Json, words: Mapping[str, str | Sequence[str]]) -> list[str]:
    """What stands beside each decision of a model of synthetic recordings, or of any stamp but CLEAN."""
    synthetic = "synthetic" if about["synthetic"] else ""
    keys = (synthetic, str(about["lineage"]).lower().replace(" ", "_"))
    return [str(words[key]) for key in keys if key in words]


def _said(row: Row, words: Mapping[str, str | Sequence[str]]) -> str:
    """The decision of a row, or that there is none, and why."""
    reason = {UNLIKE: "short_unlike", UNSURE: "short_unsure"}.get(str(row["abstained"]))
    return str(row["decision"] or (f"{words['none']} ({words[reason]})" if reason else words["none"]))


async def _unusable(request: Request, error: Exception) -> JSONResponse:
    return _problem(str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return _problem(f"{where}: {NO_FILE if where == 'body.file' else first['msg']}")


def _problem(reason: str) -> JSONResponse:
    return JSONResponse({"detail": on_one_line(printable(reason))[:LONGEST]}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """An error of the program, of which the server's log has the traceback."""
    return JSONResponse({"detail": "an error of the program; the log of the server has it"}, 500)


def run(
    ckpt: Path,
    host: str,
    port: int,
    trust: Sequence[str],
    device: str,
    detector: Path | None,
    max_seconds: float,
    limits: Limits,
    language: Language,
    hosts: Sequence[str],
) -> None:
    """Serve a checkpoint until it is stopped."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form is answered
    stopped = stopped_by([signal.SIGTERM], lambda _: KeyboardInterrupt())  # as by Ctrl+C, with the folder removed
    with stopped, TemporaryDirectory(prefix="cry-lightning-") as folder, _bound(host, port) as listening:
        service = Service(ckpt, device, trust, detector, max_seconds, Path(folder))
        named = [*LOOPBACK, *([host] if is_loopback(host) else []), *hosts]
        app = app_of(service, limits, named, language)
        config = uvicorn.Config(
            app,
            http=Connection,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MOST_CONNECTIONS,
            proxy_headers=False,  # a client could write who it is
            timeout_graceful_shutdown=GRACE_S,
        )
        name = host if is_loopback(host) else hosts[0]
        address = f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"
        print(f"{ckpt}: {address} for people, {address}openapi.json for programs; Ctrl+C stops it", flush=True)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address, before the model is loaded for it."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: {reason}; name another address or port, or port 0 for any"
        ) from error
    with listening:
        yield listening
