"""The live page in a real browser: what a person sees of a run, by the page's own script."""

import shutil
import socket
import subprocess
import threading

import pytest
from web.test_watch import root  # noqa: F401

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")
from accord.pages.watch import create_app  # noqa: E402

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def address(root):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(create_app(root, port), host="127.0.0.1", port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_chosen_run_is_drawn(address, tmp_path):
    """The run that the address names, its flag as text and on the time axis, samples, config; the
    list of all runs.
    """
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=4000",
        "--dump-dom",
        f"{address}#sweep%2Ftwo",
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    main = page.split("<main")[1]
    assert (
        "sweep/two" in main
        and "loss 9 &lt;b&gt;" in main
        and "<b>runaway" not in main
        and "1  runaway" in main
    )
    assert main.count("<svg") >= 8 and "step 2: flag.runaway" in main and "<polyline" in main
    assert "objective.name" in main and ">ipo<" in main and "step 3 beside step 0" in main
    shown = page.split("<main")[0]
    assert (
        all(name in shown for name in ("one", "sweep/two", "begun"))
        and "1 red flag<" in shown
        and "finished" in shown
    )
