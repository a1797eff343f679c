"""A small hub on the loopback address: the part of its interface that accord uses, and its faults.

Two servers of two ports: the hub itself, and the host that it redirects large files to, as the real
one does. Each keeps the requests that it was sent, with their headers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".safetensors", ".parquet", ".bin", ".gz")  # stored beside git


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE)


@dataclass
class Repo:
    """A repository: commits with their files, and branches."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str = ""  # without it nobody sees the repository
    gated: bool = False
    private: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Put a commit with exactly these files on a branch."""
        told = json.dumps([(path, sha256(content)) for path, content in sorted(files.items())])
        name = hashlib.sha1(f"{branch} {len(self.commits)} {told}".encode()).hexdigest()
        self.commits[name] = dict(files)
        self.branches[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization")


class Hub:
    """The state of both servers. What a test changes here is a fault of the hub."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []  # to the hub
        self.elsewhere: list[Request] = []  # to the other host
        self.busy = 0  # so many requests are answered with 429
        self.retry_after = "1"
        self.cut: dict[str, int] = {}  # path -> bytes after which the next transfer breaks off
        self.lies: dict[str, bytes] = {}  # path -> what is sent in place of its content
        self.gone: set[str] = set()  # listed, and not there
        self.nonsense: bytes | None = None  # the answer to every question
        self.redirect_api = False  # questions are answered by the other host
        self.change: dict = {}  # fields of an answer about a repository that are replaced
        self.uploads: dict[str, bytes] = {}
        self.address = self.other = ""

    def add(self, repo: str, files: dict[str, bytes], kind: str = "model", **more) -> Repo:
        made = self.repos[kind, repo] = Repo(**more)
        made.commit(files)
        return made

    def asked(self, part: str) -> list[Request]:
        return [each for each in self.requests if part in each.path]


@contextmanager
def serve():
    """Run a hub until the context ends."""
    hub = Hub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) for handler in (_main, _other)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.address, hub.other = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    log: list[Request]
    commit = ""  # of the file that is sent

    def log_message(self, *args) -> None:
        """Keep quiet."""

    def note(self) -> tuple[str, dict[str, list[str]]]:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.log.append(Request(self.command, self.path, headers))
        parts = urllib.parse.urlsplit(self.path)
        return parts.path, urllib.parse.parse_qs(parts.query)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value, status: int = 200, **headers: str) -> None:
        self.answer(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

    def fail(self, status: int, code: str = "", says: str = "") -> None:
        told = {"X-Error-Code": code, "X-Error-Message": says}
        self.json({"error": says}, status, **{k: v for k, v in told.items() if v})

    def content(self, path: str, content: bytes) -> None:
        """Send a file, or the part that is asked for; break off where a fault says so."""
        content = self.hub.lies.get(path, content)
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
        cut = self.hub.cut.pop(path, None)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{git_id(content)}"')
        self.send_header("X-Repo-Commit", self.commit)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is None:
            self.wfile.write(content[start:])
            return
        self.wfile.write(content[start : start + cut])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


def _main(hub_: Hub) -> type[_Handler]:
    class Main(_Handler):
        hub, log = hub_, hub_.requests

        def do_GET(self) -> None:
            path, _ = self.note()
            if self.hub.busy:
                self.hub.busy -= 1
                return self.json({}, 429, Retry_After=self.hub.retry_after)
            if self.hub.nonsense is not None:
                return self.answer(self.hub.nonsense, Content_Type="text/html")
            words = [urllib.parse.unquote(word) for word in path.strip("/").split("/")]
            if words[0] == "api":
                if self.hub.redirect_api:
                    return self.answer(b"", 302, Location=self.hub.other + self.path)
                return self.about(words[1].removesuffix("s"), words[2:])
            kind = "dataset" if words[0] == "datasets" else "model"
            words = words[1:] if kind == "dataset" else words
            return self.file(kind, "/".join(words[:2]), words[3], "/".join(words[4:]))

        def repo(self, kind: str, name: str) -> Repo | None:
            """Find a repository that the sender may see; else answer."""
            found = self.hub.repos.get((kind, name))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if found is None or (found.token and token != found.token and not found.gated):
                self.fail(404 if token else 401, "RepoNotFound", "Repository not found")
                return None
            if found.gated and token != found.token:
                self.fail(403 if token else 401, "GatedRepo", f"Access to {name} is restricted")
                return None
            return found

        def about(self, kind: str, words: list[str]) -> None:
            name = "/".join(words[:2])
            repo = self.repo(kind, name)
            if repo is None:
                return None
            if words[2:] == ["refs"]:
                refs = [
                    {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                    for n, c in repo.branches.items()
                ]
                return self.json({"branches": refs, "tags": [], "converts": []})
            commit = repo.find("/".join(words[3:]) or "main")
            if commit is None:
                return self.fail(404, "RevisionNotFound", "Invalid rev id")
            files = repo.commits[commit]
            if words[2:3] == ["tree"]:
                return self.json([_entry(path, content) for path, content in files.items()])
            listed = [_listed(path, content) for path, content in files.items()]
            told = {"id": name, "sha": commit, "siblings": listed, "private": repo.private}
            return self.json(told | self.hub.change)

        def file(self, kind: str, name: str, revision: str, path: str) -> None:
            repo = self.repo(kind, name)
            if repo is None:
                return None
            self.commit = repo.find(revision) or ""
            content = repo.commits.get(self.commit, {}).get(path)
            if content is None or path in self.hub.gone:
                return self.fail(404, "EntryNotFound", "Entry not found")
            if is_large(path):
                query = urllib.parse.urlencode({"kind": kind, "repo": name, "path": path})
                where = f"{self.hub.other}/{sha256(content)}?{query}"
                size, tag = str(len(content)), f'"{sha256(content)}"'
                told = {"X_Linked_Size": size, "X_Linked_Etag": tag}
                return self.answer(b"", 302, Location=where, X_Repo_Commit=self.commit, **told)
            return self.content(path, content)

        def do_POST(self) -> None:
            path, _ = self.note()
            body = self.body()
            if self.headers.get("Authorization") is None:
                return self.fail(401, "", "Invalid username or password.")
            if path == "/api/repos/create":
                return self.create(json.loads(body))
            if path == "/api/validate-yaml":
                return self.json({"errors": [], "warnings": []})
            words = path.strip("/").split("/")
            if words[-1] == "batch":
                return self.batch(json.loads(body))
            repo = self.repo(words[1].removesuffix("s"), "/".join(words[2:4]))
            if repo is None:
                return None
            if words[4] == "preupload":
                files = [each["path"] for each in json.loads(body)["files"]]
                modes = {True: "lfs", False: "regular"}
                told = [
                    {"path": p, "uploadMode": modes[is_large(p)], "shouldIgnore": False}
                    for p in files
                ]
                return self.json({"files": told})
            if words[4] == "branch":
                repo.branches.setdefault(urllib.parse.unquote(words[5]), repo.branches["main"])
                return self.json({})
            self.receive(repo, "/".join(words[2:4]), urllib.parse.unquote(words[5]), body)

        def create(self, asked: dict) -> None:
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            address = f"{self.hub.address}/{name}"
            if ("model", name) in self.hub.repos:
                return self.json({"url": address, "error": "exists"}, 409)
            private = asked.get("private") or asked.get("visibility") == "private"
            self.hub.add(name, {".gitattributes": b""}, private=bool(private))
            return self.json({"url": address, "name": name, "id": name})

        def batch(self, asked: dict) -> None:
            told = [
                {**each, "actions": {"upload": {"href": f"{self.hub.other}/upload/{each['oid']}"}}}
                for each in asked["objects"]
            ]
            self.json({"objects": told, "transfer": "basic"})

        def receive(self, repo: Repo, name: str, branch: str, body: bytes) -> None:
            files = dict(repo.commits[repo.branches[branch]])
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.hub.uploads[value["oid"]]
            commit = repo.commit(files, branch)
            told = {"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit}
            self.json({"success": True, **told})

        do_HEAD = do_GET

    return Main


def _other(hub_: Hub) -> type[_Handler]:
    class Other(_Handler):
        hub, log = hub_, hub_.elsewhere

        def do_GET(self) -> None:
            _, query = self.note()
            if self.path.startswith("/api/"):
                return self.answer(b"<html>sign in</html>", Content_Type="text/html")
            kind, repo, path = (query[name][0] for name in ("kind", "repo", "path"))
            digest = self.path.strip("/").split("?")[0]
            for files in self.hub.repos[kind, repo].commits.values():
                if path in files and sha256(files[path]) == digest:
                    return self.content(path, files[path])
            return self.fail(404)

        def do_PUT(self) -> None:
            self.note()
            body = self.body()
            self.hub.uploads[sha256(body)] = body
            self.answer(b"")

        do_HEAD = do_GET

    return Other


def _entry(path: str, content: bytes) -> dict:
    """Describe a file as the list of a folder does."""
    listed = _listed(path, content)
    told = {"type": "file", "path": path, "size": len(content), "oid": listed["blobId"]}
    if "lfs" in listed:
        told["lfs"] = {**listed["lfs"], "oid": listed["lfs"]["sha256"]}
    return told


def _listed(path: str, content: bytes) -> dict:
    told = {"rfilename": path, "size": len(content), "blobId": git_id(content)}
    if is_large(path):
        pointer = f"oid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
        told["blobId"] = git_id(pointer)
        told["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": len(pointer)}
    return told
