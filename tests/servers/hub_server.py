"""A small Hugging Face Hub on loopback: the API, downloads by range, a CDN, and Git.

It speaks what `huggingface_hub` 2.4.0 asks for, keeps a log of every request, and misbehaves on
demand. Its commits are real: every repository is a bare Git repository with pointers for the
files under LFS, so that listing, downloads and Git agree to the byte.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.pack import write_pack_objects
from dulwich.refs import Ref
from dulwich.repo import Repo

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".onnx", ".jpg")
SIGNATURE = "X-Amz-Signature=c0ffee"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """One file of a repository."""

    source: Path
    size: int
    oid: str  # Git id of the blob, or of the pointer
    sha256: str | None  # of a file under LFS


@dataclass
class Served:
    """One repository. `token` makes it gated."""

    name: str
    folder: Path
    commit: str
    files: dict[str, File]
    branches: dict[str, str]
    token: str | None = None
    hub_name: str | None = None
    pack: bytes | None = None  # what Git sends, where the repository has no objects


@dataclass
class Fault:
    """What to do wrong, and how often, with requests whose path matches.

    Attributes:
        pattern: Searched in the path with its query.
        times: How often.
        status: Answer with this status and `headers` instead.
        headers: Headers to add.
        drop: Headers to leave out.
        truncate: Close the connection after so many bytes of the body.
        ignore_range: Send the whole file, with status 200.
        edit: Changes the body of an answer of the API.
        extra: Bytes to send beyond the file, without a length.
        stall: Seconds to wait before the body.
    """

    pattern: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    truncate: int | None = None
    ignore_range: bool = False
    edit: Callable[[bytes], bytes] | None = None
    extra: bytes = b""
    stall: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None


class Hub:
    """The two servers and their repositories."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repos: dict[str, Served] = {}
        self.faults: list[Fault] = []
        self.log: list[Seen] = []
        # Bytes of all bodies that were handed to the network.
        self.sent = 0
        self.page_size = 1000
        self.redirect_lfs = True
        # What `Link` names: a mirror may pass on the address of the Hub.
        self.link_base: str | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._servers = [_Server(self, "hub"), _Server(self, "cdn")]
        self.url, self.cdn_url = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )

    def __enter__(self) -> Hub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the server."""
        self._stop.wait(seconds)

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Misbehave from now on."""
        made = Fault(pattern, **what)
        self.faults.append(made)
        return made

    def take_fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None

    def record(self, seen: Seen) -> None:
        with self._lock:
            self.log.append(seen)

    def count_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def paths(self, server: str = "hub") -> list[str]:
        return [seen.path for seen in self.log if seen.server == server]

    def add(
        self,
        name: str,
        folder: Path,
        *,
        digests: Mapping[str, str] | None = None,
        lfs: tuple[str, ...] = LFS_SUFFIXES,
        token: str | None = None,
        git: Mapping[str, bool] | None = None,
    ) -> Served:
        """Commit a folder.

        Args:
            name: Name of the repository.
            folder: What is in it; links are followed.
            digests: SHA-256 of files that are too large to hash here (sparse ones).
            lfs: Endings of the names of files under LFS.
            token: Makes it gated.
            git: Settings of `uploadpack.*`.
        """
        bare = self.root / f"{name}.git"
        bare.mkdir(parents=True)
        repo = Repo.init_bare(str(bare))
        config = repo.get_config()
        for key, value in {"allowFilter": True, "allowAnySHA1InWant": True, **(git or {})}.items():
            config.set(("uploadpack",), key, value)
        config.write_to_path()
        files: dict[str, File] = {}
        root = Tree()
        trees: dict[str, Tree] = {"": root}
        for source in sorted(p for p in folder.rglob("*") if p.is_file()):
            path = source.relative_to(folder).as_posix()
            under_lfs = path.endswith(lfs)
            sha256 = (digests or {}).get(path) or (_sha256(source) if under_lfs else None)
            size = source.stat().st_size
            if under_lfs:
                content = _pointer(size, cast(str, sha256))
            else:
                content, sha256 = source.read_bytes(), None
            blob = Blob.from_string(content)
            repo.object_store.add_object(blob)
            files[path] = File(source, size, blob.id.decode(), sha256)
            parent, _, leaf = path.rpartition("/")
            _tree(trees, parent).add(leaf.encode(), 0o100644, blob.id)
        for path in sorted(trees, key=lambda path: -path.count("/") - bool(path)):
            if path:
                parent, _, leaf = path.rpartition("/")
                _tree(trees, parent).add(leaf.encode(), 0o040000, trees[path].id)
            repo.object_store.add_object(trees[path])
        commit = Commit()
        commit.tree = root.id
        commit.author = commit.committer = b"Somebody <somebody@example.com>"
        commit.author_time = commit.commit_time = 1737454515
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"Add files\n"
        repo.object_store.add_object(commit)
        repo.refs[Ref(b"refs/heads/main")] = commit.id
        repo.close()
        return self._serve(name, folder, commit.id, files, token)

    def add_commit(self, value: dict[str, Any]) -> Served:
        """Serve a commit of which only the commit object and the root tree are known.

        Args:
            value: A Hub commit as in `tests/vectors/hub-commits`.
        """
        tree, commit, files = Tree(), _commit_object(value), {}
        for entry in value["entries"]:
            name, git_id = entry["name"], ObjectID(entry["git_sha1"].encode())
            tree.add(name.encode(), int(entry["mode"], 8), git_id)
            size = entry.get("lfs_size", entry.get("size"))
            if entry["mode"] != "040000":
                # A listing has a size for every file; where the vector has none, any will do.
                size = 1 if size is None else size
                files[name] = File(Path(), size, entry["git_sha1"], entry.get("lfs_sha256"))
        bare = self.root / f"{value['hub_repo']}.git"
        bare.mkdir(parents=True)
        Repo.init_bare(str(bare)).close()
        stream = BytesIO()
        objects = [(commit, None), (tree, None)]
        write_pack_objects(stream, objects, object_format=DEFAULT_OBJECT_FORMAT)
        served = self._serve(value["hub_repo"], bare, commit.id, files, None)
        served.pack = stream.getvalue()
        return served

    def _serve(
        self, name: str, folder: Path, commit: ObjectID, files: dict[str, File], token: str | None
    ) -> Served:
        text = commit.decode()
        served = Served(name, folder, text, files, {"main": text, "refs/pr/1": text}, token)
        self.repos[name] = served
        return served


@contextmanager
def running_hub(root: Path) -> Iterator[Hub]:
    """A Hub that runs until the end of the block."""
    with Hub(root) as hub:
        yield hub


def _tree(trees: dict[str, Tree], path: str) -> Tree:
    if path not in trees:
        trees[path] = Tree()
        _tree(trees, path.rpartition("/")[0])
    return trees[path]


def _item(path: str, file: File) -> dict[str, object]:
    item: dict[str, object] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.sha256:
        item["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 135}
    return item


def _commit_object(value: dict[str, Any]) -> Commit:
    lines = [f"tree {value['tree']}", *(f"parent {one}" for one in value["parents"])]
    lines += [f"author {value['author']}", f"committer {value['committer']}"]
    if value["signature"]:
        lines.append("gpgsig " + value["signature"].replace("\n", "\n "))
    return Commit.from_string(("\n".join(lines) + "\n\n" + value["message"]).encode())


def packet(data: bytes) -> bytes:
    """A line of Git's protocol (gitprotocol-common, "pkt-line Format")."""
    return b"%04x" % (len(data) + 4) + data


def fetch_answer(commit: str, pack: bytes) -> bytes:
    """The answer to `fetch` with `deepen 1` (gitprotocol-v2)."""
    parts = [packet(b"shallow-info\n"), packet(b"shallow %s" % commit.encode()), b"0001"]
    parts.append(packet(b"packfile\n"))
    step = 60_000
    parts += [packet(b"\1" + pack[at : at + step]) for at in range(0, len(pack), step)]
    return b"".join([*parts, b"0000"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pointer(size: int, sha256: str) -> bytes:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return text.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: Hub, role: str) -> None:
        self.hub = hub
        self.role = role
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    @property
    def hub(self) -> Hub:
        return cast(_Server, self.server).hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        role = cast(_Server, self.server).role
        self.hub.record(
            Seen(
                role,
                self.command,
                self.path,
                self.headers.get("Range"),
                self.headers.get("Authorization"),
            )
        )
        fault = self.hub.take_fault(self.path) or Fault("")
        if fault.status is not None:
            if fault.stall:
                self.hub.wait(fault.stall)
            self._answer(fault.status, b"", fault.headers, Fault(""))
            return
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if role == "cdn":
            self._cdn(path, parts.query, fault)
        elif "/info/refs" in path or path.endswith("/git-upload-pack"):
            self._git(path, parts.query, fault)
        elif path.startswith(("/api/models/", "/api/datasets/")):
            self._api(path, parse_qs(parts.query), fault)
        else:
            self._resolve(path, fault)

    def do_POST(self) -> None:
        self.do_GET()

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._answer(status, b"{}", headers, Fault(""))

    def _repo(self, path: str) -> tuple[Served, str] | None:
        """The repository that a path begins with, and the rest; or an answer."""
        for name, served in self.hub.repos.items():
            for prefix in (name, f"{name}.git"):
                if path == prefix or path.startswith(f"{prefix}/"):
                    sent = self.headers.get("Authorization", "")
                    if served.token and sent not in _credentials(served.token):
                        self._refuse(401 if not sent else 403, "GatedRepo", "Access is restricted")
                        return None
                    return served, path[len(prefix) + 1 :]
        self._refuse(404, "RepoNotFound", "Repository not found")
        return None

    def _commit(self, served: Served, revision: str) -> str | None:
        if revision == served.commit:
            return revision
        commit = served.branches.get(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        return commit

    def _api(self, path: str, query: dict[str, list[str]], fault: Fault) -> None:
        # A dataset is added by the name that its files have, `datasets/owner/name`.
        name = path.removeprefix("/api/")
        found = self._repo(name.removeprefix("models/"))
        if found is None:
            return
        served, rest = found
        what, _, revision = rest.partition("/")
        if what == "tree":
            # olah asks with a slash at the end.
            revision = revision.removesuffix("/")
        if what not in ("", "revision", "tree", "refs", "paths-info"):
            self._refuse(404, "", "no such route")
            return
        if what == "refs":
            branches = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                for n, c in served.branches.items()
            ]
            self._json({"branches": branches, "tags": [], "converts": []}, {}, fault)
            return
        below = ""
        if what == "tree":
            for known in (served.commit, *served.branches):
                if revision.startswith(f"{known}/"):
                    revision, below = known, revision.removeprefix(f"{known}/") + "/"
        commit = self._commit(served, revision or "main")
        if commit is None:
            return
        if what == "tree":
            self._tree(served, query, fault, below)
            return
        if what == "paths-info":
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if raw.startswith(b"{"):
                wanted = json.loads(raw)["paths"]
            else:
                wanted = parse_qs(raw.decode())["paths"]
            wanted = [wanted] if isinstance(wanted, str) else wanted
            items = [_item(p, served.files[p]) for p in wanted if p in served.files]
            self._json(items, {}, fault)
            return
        siblings = [{"rfilename": name} for name in served.files]
        name = served.hub_name or served.name
        body = {"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings,
                "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                "tags": [], "lastModified": "2025-01-21T10:15:15.000Z"}  # fmt: skip
        self._json(body, {}, fault)

    def _tree(
        self, served: Served, query: dict[str, list[str]], fault: Fault, below: str = ""
    ) -> None:
        items: list[dict[str, object]] = []
        directories = set()
        for path, file in sorted(served.files.items()):
            for end in (i for i, c in enumerate(path) if c == "/"):
                if path[:end] not in directories:
                    directories.add(path[:end])
                    oid = hashlib.sha1(path[:end].encode()).hexdigest()
                    items.append({"type": "directory", "path": path[:end], "oid": oid, "size": 0})
            items.append(_item(path, file))
        if below:
            items = [one for one in items if str(one["path"]).startswith(below)]
            if not items:
                self._refuse(404, "EntryNotFound", "no such folder")
                return
        if query.get("recursive") == ["false"]:
            items = [one for one in items if "/" not in str(one["path"]).removeprefix(below)]
        begin = int(query.get("cursor", ["0"])[0])
        end = begin + self.hub.page_size
        headers = {}
        if end < len(items):
            base = self.hub.link_base or self.hub.url
            url = f"{base}{urlsplit(self.path).path}?recursive=true&expand=false&cursor={end}"
            headers["Link"] = f'<{url}>; rel="next"'
        self._json(items[begin:end], headers, fault)

    def _json(self, value: object, headers: dict[str, str], fault: Fault) -> None:
        body = json.dumps(value).encode()
        if fault.edit:
            body = fault.edit(body)
        self._answer(200, body, {"Content-Type": "application/json", **headers}, fault)

    def _resolve(self, path: str, fault: Fault) -> None:
        found = self._repo(path.removeprefix("/"))
        if found is None:
            return
        served, rest = found
        match = re.fullmatch(r"resolve/(refs/pr/\d+|[^/]+)/(.+)", rest)
        if match is None:
            self._refuse(404, "EntryNotFound", "no such route")
            return
        commit = self._commit(served, match[1])
        if commit is None:
            return
        file = served.files.get(match[2])
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.sha256 or file.oid}"'}
        if file.sha256:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            if self.hub.redirect_lfs:
                target = f"{self.hub.cdn_url}/{served.name}/{quote(match[2])}?{SIGNATURE}"
                headers |= {"Location": target, **fault.headers}
                self._answer(302, b"", headers, fault)
                return
        self._file(file, headers, fault)

    def _cdn(self, path: str, query: str, fault: Fault) -> None:
        for name, served in self.hub.repos.items():
            file = served.files.get(path.removeprefix(f"/{name}/"))
            if file is not None and query == SIGNATURE:
                # A CDN has tags of its own.
                etag = f'"{hashlib.md5(path.encode()).hexdigest()}"'
                self._file(file, {"ETag": etag}, fault)
                return
        self._answer(403, b"", {}, fault)

    def _file(self, file: File, headers: dict[str, str], fault: Fault) -> None:
        begin, end, status = 0, file.size, 200
        wanted = self.headers.get("Range")
        if wanted and not fault.ignore_range:
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            assert match, wanted
            begin, end, status = int(match[1]), file.size, 206
            if match[2]:
                end = min(int(match[2]) + 1, file.size)
            if begin >= file.size:
                self._answer(416, b"", {"Content-Range": f"bytes */{file.size}"}, fault)
                return
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
        headers |= {"Accept-Ranges": "bytes", **fault.headers}
        with file.source.open("rb") as source:
            source.seek(begin)
            self._answer(status, source, headers, fault, length=end - begin)

    def _answer(
        self,
        status: int,
        body: bytes | IO[bytes],
        headers: Mapping[str, str],
        fault: Fault,
        *,
        length: int | None = None,
    ) -> None:
        count = len(body) if isinstance(body, bytes) else cast(int, length)
        self.send_response(status)
        sent = {**headers, **fault.headers}
        if fault.extra:
            sent["Connection"] = "close"
        else:
            sent.setdefault("Content-Length", str(count))
        for name, value in sent.items():
            if name.lower() not in fault.drop:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.stall:
            self.hub.wait(fault.stall)
        left = count if fault.truncate is None else min(count, fault.truncate)
        while left > 0:
            part = body[:left] if isinstance(body, bytes) else body.read(min(left, _CHUNK))
            left -= self.wfile.write(part)
            self.hub.count_sent(len(part))
        if fault.extra:
            self.wfile.write(fault.extra)
        if fault.truncate is not None or fault.extra:
            self.close_connection = True

    def _git(self, path: str, query: str, fault: Fault) -> None:
        found = self._repo(path.removeprefix("/"))
        if found is None:
            return
        served, rest = found
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if served.pack is not None and b"command=fetch" in body:
            kind = "application/x-git-upload-pack-result"
            answer = fetch_answer(served.commit, served.pack)
            self._answer(200, answer, {"Content-Type": kind}, fault)
            return
        environment = {
            "GIT_PROJECT_ROOT": str(self.hub.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HOME": str(self.hub.root),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PATH_INFO": f"/{served.name}.git/{rest}",
            "REQUEST_METHOD": self.command,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environment, check=False
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        if fault.edit:
            answer = fault.edit(answer)
        self._answer(status, answer, headers, fault)


def _credentials(token: str) -> set[str]:
    import base64

    basic = base64.b64encode(f"r1prov:{token}".encode()).decode()
    return {f"Bearer {token}", f"Basic {basic}"}
