"""A stand-in for the Hugging Face hub on 127.0.0.1: one repository from a folder, and faults on request."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOT_LFS = (".json", ".jinja", ".md")


@dataclass
class Hub:
    """What the server does. Files that end in NOT_LFS are plain, all others have a SHA-256.

    Attributes:
        files: name -> bytes.
        repository: its name.
        denied: (status, X-Error-Code, X-Error-Message) for every request to the API.
        denied_files: the same for downloads.
        breaks: name -> bytes after which its first download breaks off.
        damaged: names whose last byte arrives changed.
        token: that a client must send; None: none.
        requests: (method, path, Range) of all that was asked.
    """

    files: dict[str, bytes]
    repository: str = "org/tiny"
    denied: tuple[int, str, str] | None = None
    denied_files: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    token: str | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def sha256(self, name: str) -> str | None:
        return None if name.endswith(NOT_LFS) else hashlib.sha256(self.files[name]).hexdigest()

    def downloads(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


def folder_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def serve(hub: Hub) -> ThreadingHTTPServer:
    """Starts the server in a thread; `hub.url` is its address. End it with shutdown() and server_close()."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
            download = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            repository, revision = (api[1], api[3]) if api else (download[1], download[2]) if download else ("", "")
            if repository != hub.repository:
                return self.refuse(404, "RepoNotFound", "Repository not found")
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.refuse(401, "", "Invalid credentials in Authorization header")
            if revision not in (None, "main", COMMIT):
                return self.refuse(404, "RevisionNotFound", "Invalid rev id")
            if api and hub.denied:
                return self.refuse(*hub.denied)
            if api:
                return self.send(json.dumps(tree() if api[2] == "tree" else model()).encode(), body=body)
            if download[3] in hub.denied_files:
                return self.refuse(*hub.denied_files[download[3]])
            return self.send_file(download[3], body=body)

        def refuse(self, status: int, code: str, message: str) -> None:
            headers = {"X-Error-Code": code} if code else {}
            self.send(b"{}", status=status, headers={**headers, "X-Error-Message": message})

        def send_file(self, name: str, *, body: bool) -> None:
            if name not in hub.files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            data = hub.files[name]
            etag = hub.sha256(name) or hashlib.sha1(data).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            if name in hub.damaged:
                data = data[:-1] + bytes([data[-1] ^ 1])
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if asked:
                first = int(asked[1])
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
                return self.send(data[first:], status=206, headers=headers, body=body)
            cut = hub.breaks.pop(name, None) if body else None
            return self.send(data, headers=headers, body=body, cut=cut)

        def send(self, data, *, status=200, headers=None, body=True, cut=None) -> None:
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body and self.command != "HEAD":
                self.wfile.write(data[:cut])
            if cut is not None:
                self.close_connection = True

    def model() -> dict:
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40}
            | ({"lfs": {"sha256": sha, "size": len(data), "pointerSize": 134}} if (sha := hub.sha256(name)) else {})
            for name, data in hub.files.items()
        ]
        return {"id": hub.repository, "modelId": hub.repository, "sha": COMMIT, "siblings": siblings, "tags": []}

    def tree() -> list:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            | ({"lfs": {"oid": sha, "size": len(data), "pointerSize": 134}} if (sha := hub.sha256(name)) else {})
            for name, data in hub.files.items()
        ]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
