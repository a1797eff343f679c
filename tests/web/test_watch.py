"""The live page: every run of a folder, for this machine's own browser alone."""

import json
import re
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows
from training.helpers import run
from typer.testing import CliRunner

from accord.cli.app import app as cli

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from accord.pages import watch
from accord.pages.watch import create_app, find_runs


@pytest.fixture(scope="module")
def root(tiny_folder, tmp_path_factory):
    """Two runs, one a folder deeper; a third that has only begun."""
    root = tmp_path_factory.mktemp("runs")
    data = write_rows(root / "pairs.jsonl", pair_rows(12))
    held = write_rows(root / "held.jsonl", pair_rows(4, start=100))
    changes = {"set": {"monitor.sample_tokens": 4, "monitor.samples": 2}, "held_out": held}
    run(tiny_folder, data, root / "one", steps=2, **changes)
    folder = run(tiny_folder, data, root / "sweep/two", steps=3, method="ipo", **changes).folder
    event = {
        "step": 2,
        "check": "flag.runaway",
        "verdict": "warning",
        "says": "loss 9 <b>",
        "evidence": {},
        "remedy": "",
    }
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    (root / "begun").mkdir()
    (root / "begun/config.yaml").write_text((root / "one/config.yaml").read_text())
    return root


@pytest.fixture
def client(root):
    return TestClient(create_app(root, 7373), base_url="http://127.0.0.1:7373")


def test_every_run_is_listed(client):
    lines = {line["name"]: line for line in client.get("/api/runs").json()}
    assert lines.keys() == {"one", "sweep/two", "begun"}
    assert (
        lines["sweep/two"]["objective"],
        lines["sweep/two"]["step"],
        lines["sweep/two"]["flags"],
    ) == ("ipo", 3, 1)
    assert "no figures yet" in lines["begun"]["says"]


def test_a_run_by_its_figures(client, root):
    got = client.get("/api/run", params={"name": "sweep/two"}).json()
    lines = [
        json.loads(line) for line in (root / "sweep/two/metrics.jsonl").read_text().splitlines()
    ]
    assert got["curves"]["training"]["loss"] == [
        [line["step"], line["loss"]] for line in lines if "loss" in line
    ]
    assert got["curves"]["held_out"]["eval_loss"] == [
        [line["step"], line["eval_loss"]] for line in lines if "eval_loss" in line
    ]
    assert (
        got["events"][0]["says"] == "loss 9 <b>"
        and got["config"]["objective.name"] == "ipo"
        and len(got["samples"]) == 4
    )


def test_a_single_run_can_be_watched(root):
    assert list(find_runs(root / "one")) == ["one"]


@pytest.mark.parametrize("name", ["../one", "/etc", "one/../one", "", "begun/.."])
def test_only_listed_names_are_opened(client, name):
    assert client.get("/api/run", params={"name": name}).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/static/watch.py", "/static/..%2fwatch.py", "/static/../watch.py", "/docs", "/openapi.json"],
)
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7373", "127.0.0.1:80", "127.0.0.1"])
def test_other_hosts_are_refused(client, host):
    """DNS rebinding: a stranger's name that resolves to this machine."""
    assert client.get("/api/runs", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin, status",
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("https://127.0.0.1:7373", 403),
        ("http://127.0.0.1:7373", 200),
        ("http://localhost:7373", 200),
    ],
)
def test_other_origins_are_refused(client, origin, status):
    assert client.get("/api/runs", headers={"Origin": origin}).status_code == status


def test_it_only_reads(client):
    assert {
        client.request(method, "/api/runs").status_code for method in ("POST", "PUT", "DELETE")
    } == {405}


def test_headers_keep_the_page_to_itself(client):
    headers = client.get("/").headers
    assert (
        "default-src 'none'" in headers["content-security-policy"]
        and "unsafe" not in headers["content-security-policy"]
    )
    assert (
        headers["x-content-type-options"] == "nosniff"
        and "access-control-allow-origin" not in headers
    )


def test_text_goes_in_as_text():
    """No way from a run's text to markup in the script; no inline script or style in the page."""
    script = (Path(watch.__file__).parent / "watch.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script
    )
    page = (Path(watch.__file__).parent / "watch.html").read_text()
    assert not re.search(r"<script>|<style|style=|\son\w+=|https?://", page)


def test_not_finite_and_many_points():
    points = [(i, float(i)) for i in range(2001)] + [(2001, float("inf"))]
    thin = watch._thin(points)
    assert len(thin) <= watch.POINTS and thin[-1] == (2001, None) and thin[-2] == (2000, 2000.0)


def test_no_such_folder(tmp_path):
    done = CliRunner().invoke(cli, ["watch", str(tmp_path / "none")])
    assert done.exit_code == 2 and "no such folder" in done.stderr


def test_it_listens_on_the_loopback_address_only(root, monkeypatch):
    import uvicorn

    called = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **keywords: called.update(keywords))
    done = CliRunner().invoke(cli, ["watch", str(root), "--port", "8123"])
    assert (
        done.exit_code == 0
        and (called["host"], called["port"]) == ("127.0.0.1", 8123)
        and "http://127.0.0.1:8123" in done.stdout
    )
