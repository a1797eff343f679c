"""`accord watch`: a live page of all runs of a folder, for this machine alone.

The page reads; it cannot change a run. It answers on the loopback address, and only to requests
that name it as their host, so that no web page can reach it by a name of its own (DNS rebinding). A
request that names an origin must come from this page itself.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from accord.errors import first_line
from accord.pages.live import LiveRuns, state_of, touched
from accord.pages.thinned import extremes, means, not_finite
from accord.runs.folder import RunFolder
from accord.runs.recorded import Recorded
from accord.types import AccordError, UsageError

HERE = Path(__file__).parent
STATIC = {"watch.js": "text/javascript", "watch.css": "text/css"}
POINTS = 500  # most points of a curve that are sent to the page
BROKEN = 40  # most of them whose value is not finite
DEEPEST = 2  # folders below the one that is watched
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; frame-ancestors 'none'"
)


def create_app(root: Path, port: int) -> FastAPI:
    """Build the page of every run at or below `root`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    live = LiveRuns()
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    @app.middleware("http")
    async def only_this_machine(request: Request, answer):
        """Refuse other hosts' names and other pages' requests; then add the headers that isolate
        the page.
        """
        origin = request.headers.get("origin")
        if request.headers.get("host") not in hosts:
            return JSONResponse({"error": "unknown host"}, 421)
        if origin is not None and origin.removeprefix("http://") not in hosts:
            return JSONResponse({"error": "foreign origin"}, 403)
        response = await answer(request)
        response.headers.update(
            {
                "Content-Security-Policy": POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )
        return response

    @app.get("/")
    def page() -> Response:
        return FileResponse(HERE / "watch.html", media_type="text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        return FileResponse(HERE / name, media_type=STATIC[name])

    @app.get("/api/runs")
    def runs() -> list[dict]:
        return [live.brief(name, path) for name, path in find_runs(root).items()]

    @app.get("/api/run")
    def run(name: str) -> dict:
        # accept only listed names: no path of the request is ever opened
        path = find_runs(root).get(name)
        if path is None:
            raise HTTPException(404, "no such run")
        try:
            return whole(live, name, path)
        except AccordError as error:  # such as a config.yaml that is none
            raise HTTPException(422, first_line(error)) from error

    return app


def find_runs(root: Path) -> dict[str, Path]:
    """Find runs by their path below `root`, the newest first."""
    patterns = ["config.yaml", *("*/" * depth + "config.yaml" for depth in range(1, DEEPEST + 1))]
    folders = [file.parent for pattern in patterns for file in root.glob(pattern)]
    folders.sort(key=lambda folder: -touched(folder))
    return {
        str(folder.relative_to(root)) if folder != root else folder.resolve().name: folder
        for folder in folders
    }


def whole(runs: LiveRuns, name: str, path: Path) -> dict:
    """Return all that the page shows of one run.

    A long curve is sent as the least and the largest value of each stretch, its trend as means
    beside it. A value that is not finite is null, since JSON has no other word for it.
    """
    tables = runs.tables(path)
    run = Recorded(RunFolder.open(str(path)), tables.tables)
    curves: dict[str, dict] = {}
    trends: dict[str, dict] = {}
    for part in ("training", "held_out", "sampled"):
        table, shown = tables.table(part), "samples" if part == "sampled" else part
        points = {metric: table.recorded(metric) for metric in table.columns}
        curves[shown] = {metric: _thin(series) for metric, series in points.items()}
        trends[shown] = {
            metric: means(series, POINTS // 2)
            for metric, series in points.items()
            if len(series) > POINTS
        }
    config = {key: "–" if value is None else str(value) for key, value in run.fields.items()}
    return {
        "name": name,
        "state": state_of(path),
        "own": run.answers_itself,
        "curves": curves,
        "trends": trends,
        "events": run.events,
        "samples": run.lines("samples.jsonl"),
        "config": config,
    }


def _thin(points: list[tuple[int, float]]) -> list[tuple[float, float | None]]:
    """Keep at most POINTS of the finite ones, the extremes among them, and where a value is not
    finite.
    """
    broken: list[tuple[float, float | None]] = [(step, None) for step in not_finite(points, BROKEN)]
    kept = extremes(points, POINTS - len(broken))
    return sorted([*kept, *broken], key=lambda point: point[0])


def serve(target: str | None, port: int, say) -> None:
    """Serve until interrupted.

    Args:
      target: a run, or a folder of runs; runs/ by default.

    Raises:
      UsageError: no such folder.
    """
    import uvicorn

    root = Path(target or "runs").expanduser()
    if not root.is_dir():
        raise UsageError(
            f"{root}: no such folder. Expected a run, or a folder of runs: accord watch runs/"
        )
    say(f"watching {root}: http://127.0.0.1:{port}  (Ctrl-C ends it)")
    uvicorn.run(
        create_app(root, port), host="127.0.0.1", port=port, log_level="warning", access_log=False
    )
