"""A Hugging Face hub over folders: the protocol that huggingface_hub's client speaks.

Made from the client (huggingface_hub 1.27: hf_api.py, `model_info` and `list_repo_tree`;
_snapshot_download.py; file_download.py; utils/_http.py, `hf_raise_for_status`) and from what the
hub answers:

- /api/models/NAME[/revision/REF] gives the commit and the files, with sizes and the SHA-256 of
  those that are stored apart (LFS) when asked with ?blobs=true; /tree/COMMIT the same by folder;
- /NAME/resolve/COMMIT/FILE gives the file, X-Repo-Commit and ETag; what is stored apart is a
  redirect to another place, with X-Linked-Etag and X-Linked-Size;
- a repository that is not there is 401 to somebody without a token, with X-Error-Code RepoNotFound;
  a revision that is not there 404 RevisionNotFound, a file 404 EntryNotFound.

    python -m tests.twin.hub FOLDER [--real]

writes all repositories of tests/twin/repositories.py below FOLDER and serves them; with --real
those of Stable Diffusion at 512 px, its scorer and its checker are as wide as the real ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Repositories = dict[str, dict[str, Path]]
STORED_APART = (".safetensors", ".bin", ".ckpt")
KNOWN_COMMITS = {  # of the refs that are pull requests, as far as they are known
    ("CompVis/stable-diffusion-safety-checker", "refs/pr/41"): "1664e30",
    ("facebook/dino-vits16", "refs/pr/1"): "a7a4d16",
}


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``repositories`` (name -> ref or commit -> folder) and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, repositories: Repositories, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.repositories = repositories
        self.asked: list[str] = []
        self.with_token: list[str] = []
        self.ranges: list[str | None] = []  # of what is stored apart, as HTTP says them
        self.breaks_after: int | None = None  # bytes of the next such file, then the line is cut
        self._digests: dict[Path, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, name: str, ref: str) -> str | None:
        """Return the commit that ``ref`` is, None where the repository has no such one."""
        if ref in (refs := self.repositories[name]):
            if re.fullmatch(r"[0-9a-f]{40}", ref):
                return ref
            begin = KNOWN_COMMITS.get((name, ref), "")
            return begin + hashlib.sha1(f"{name}@{ref}".encode()).hexdigest()[len(begin) :]
        return ref if ref in {self.commit_of(name, other) for other in refs} else None

    def folder_of(self, name: str, commit: str) -> Path:
        refs = self.repositories[name]
        return next(folder for ref, folder in refs.items() if self.commit_of(name, ref) == commit)

    def sha256_of(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._digests[path]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.server.asked.append(path)
        if self.headers.get("Authorization"):
            self.server.with_token.append(path)
        if path.startswith("/stored-apart/"):
            return self.give_stored(path.rsplit("/", 1)[-1])
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+)", path)
        found = api or file
        if not found or found[1] not in self.server.repositories:
            return self.refuse(401, "RepoNotFound", "Invalid username or password.")
        if api:
            return self.give_facts(api[1], api[2] or "revision", api[3] or "main", parts.query)
        ref, _, name = found[2].partition("/")
        if ref == "refs":  # an unquoted pull request: refs/pr/N
            ref, name = found[2].split("/", 3)[:3], found[2].split("/", 3)[3]
            ref = "/".join(ref)
        return self.give_file(found[1], ref, name)

    def give_facts(self, name: str, kind: str, ref: str, query: str) -> None:
        ref = ref if kind == "revision" else ref.partition("/")[0]
        commit = self.server.commit_of(name, ref)
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {ref}")
        folder = self.server.folder_of(name, commit)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if kind == "tree":
            return self.answer(json.dumps([self.entry(path, folder) for path in paths]).encode())
        siblings = []
        for path in paths:
            entry = self.entry(path, folder)
            facts = {"rfilename": entry["path"]}
            if "blobs" in query:
                facts |= {"size": entry["size"], "blobId": entry["oid"]}
                if lfs := entry.get("lfs"):
                    facts["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 134}
            siblings.append(facts)
        info = {"id": name, "modelId": name, "sha": commit, "private": False, "gated": False}
        return self.answer(json.dumps(info | {"siblings": siblings}).encode())

    def entry(self, path: Path, folder: Path) -> dict[str, Any]:
        size, digest = path.stat().st_size, self.server.sha256_of(path)
        entry = {
            "type": "file",
            "oid": digest[:40],
            "size": size,
            "path": path.relative_to(folder).as_posix(),
        }
        if path.suffix in STORED_APART:
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return entry

    def give_file(self, name: str, ref: str, file: str) -> None:
        commit = self.server.commit_of(name, ref)
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {ref}")
        path = self.server.folder_of(name, commit) / file
        own = {"X-Repo-Commit": commit}
        if not path.is_file():
            return self.refuse(404, "EntryNotFound", "Entry not found", own)
        digest = self.server.sha256_of(path)
        if path.suffix not in STORED_APART:
            return self.answer(path.read_bytes(), headers=own | {"ETag": f'"{digest[:40]}"'})
        linked = {
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(path.stat().st_size),
            # Another host than the hub's, as the real one has it (cas-bridge.xethub.hf.co): by that
            # the hub's client 2.4 knows that the facts of the file are on this answer.
            "Location": f"http://localhost:{self.server.server_port}/stored-apart/{digest}",
        }
        return self.answer(b"Found. Redirecting", 302, own | linked)

    def give_stored(self, digest: str) -> None:
        path = next(path for path, d in self.server._digests.items() if d == digest)
        body, asked = path.read_bytes(), self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.server.ranges.append(asked)
        end = len(body)
        if self.server.breaks_after and self.server.breaks_after < end:
            end, self.server.breaks_after = self.server.breaks_after, None
            self.close_connection = True  # in the middle, whatever length was promised
        headers = {"ETag": f'"{digest}"', "Content-Length": str(len(body) - start)}
        self.answer(body[start:end], 206 if asked else 200, headers)

    def refuse(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        said = {"X-Error-Code": code, "X-Error-Message": message}
        self.answer(json.dumps({"error": message}).encode(), status, (headers or {}) | said)

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)


@contextlib.contextmanager
def serve(repositories: Repositories) -> Iterator[Hub]:
    """Serve ``repositories`` in this process as long as the block runs."""
    hub = Hub(repositories)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


if __name__ == "__main__":
    from tests.twin.repositories import REAL, write_all

    real = {"latent_px": 64, "widths": REAL} if "--real" in sys.argv else {}
    served = Hub(write_all(Path(sys.argv[1]), **real))
    print(f"HF_ENDPOINT={served.url}", flush=True)
    served.serve_forever()
