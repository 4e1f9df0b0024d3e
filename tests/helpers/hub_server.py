"""A small Hugging Face hub on this machine: repositories, branches, commits, LFS, tokens, gates."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"


@dataclass
class Repository:
    """Commits are dictionaries of whole files; branches name commits."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        whole = self.commits.get(self.branches.get(branch, ""), {}) | files
        oid = hashlib.sha1(repr((len(self.commits), sorted(whole.items()))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = whole, oid
        self.messages.append(message)
        return oid

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None


class Hub:
    """What the server knows, and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status=200, body=b"", error: str | None = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def parts(self) -> list[str]:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        return [unquote(part) for part in path.strip("/").split("/")]

    def do_HEAD(self) -> None:
        match self.parts():
            case [""]:
                self.answer()
            case [org, name, "resolve", revision, *rest]:
                self.resolve(f"{org}/{name}", revision, "/".join(rest))
            case _:
                self.answer(404)

    do_GET = do_HEAD

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self.token() is None):
            self.answer(401, error="RepoNotFound")
        elif repository.gated and self.token() is None:
            self.answer(401, error="GatedRepo")
        elif (found := repository.files(revision)) is None:
            self.answer(404, error="RevisionNotFound")
        elif file not in found[1]:
            self.answer(404, error="EntryNotFound", X_Repo_Commit=found[0])
        else:
            body = found[1][file]
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            self.answer(body=body, ETag=etag, X_Repo_Commit=found[0])

    def do_PUT(self) -> None:
        oid = self.parts()[-1]
        body = self.body()
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer(400)
        self.hub.blobs[oid] = body
        self.answer()

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_POST(self) -> None:
        parts, body = self.parts(), self.body()
        if self.token() is None:
            return self.answer(401, {"error": "Invalid username or password."})
        if self.token() != WRITER:
            return self.answer(403, {"error": "You don't have the rights to create a model."})
        match parts:
            case ["api", "repos", "create"]:
                self.create(json.loads(body))
            case ["api", "validate-yaml"]:
                self.answer(body={"errors": [], "warnings": []})
            case ["api", "models", org, name, "branch", branch]:
                repository = self.hub.repositories[f"{org}/{name}"]
                taken = branch in repository.branches
                repository.branches.setdefault(branch, repository.branches["main"])
                self.answer(409 if taken else 200)
            case ["api", "models", _, _, "preupload", _]:
                self.modes(json.loads(body))
            case [_, _, "info", "lfs", "objects", "batch"]:
                self.lfs(json.loads(body))
            case ["api", "models", org, name, "commit", branch]:
                self.commit(f"{org}/{name}", branch, body)
            case _:
                self.answer(404)

    def create(self, data: dict) -> None:
        name = f"{data['organization']}/{data['name']}"
        taken = name in self.hub.repositories
        if not taken:
            private = data.get("visibility") == "private" or bool(data.get("private"))
            self.hub.repositories[name] = Repository(private)
            self.hub.repositories[name].commit("main", {".gitattributes": b""}, "initial commit")
        self.answer(409 if taken else 200, {"url": f"{self.hub.url}/{name}"})

    def modes(self, data: dict) -> None:
        """As the hub does: what is binary goes by LFS."""
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in data["files"]
        ]
        self.answer(body={"files": files})

    def lfs(self, data: dict) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
            for item in data["objects"]
        ]
        self.answer(body={"transfer": "basic", "objects": objects})

    def commit(self, name: str, branch: str, body: bytes) -> None:
        files, message = {}, ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        oid = self.hub.repositories[name].commit(branch, files, message)
        self.answer(body={"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
