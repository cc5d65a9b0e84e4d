"""Downloads from a real server on the loopback device, which breaks off, lies and redirects."""

import hashlib
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fungi_audio.errors import ConfigError, StorageError
from fungi_audio.files import download
from fungi_audio.files.download import CHUNK, fetch, local_path, shown, verify

CONTENT = bytes(range(256)) * 8192  # 2 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` with ranges; the knobs below make it misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = CONTENT, '"v1"'
        self.cut_after: list[int | None] = []  # bytes sent of the next answers
        self.statuses: list[int] = []  # of the next answers
        self.ranges, self.headers, self.location, self.scheme = True, {}, "", "http"
        self.careless = False  # about If-Range
        self.raw = b""  # the next answer, byte for byte
        self.requests: list[dict[str, str]] = []

    def url(self, path: str = "/data.zip") -> str:
        return f"{self.scheme}://localhost:{self.server_port}{path}"

    def encrypt(self, folder: Path) -> Path:
        """Serve https from now on, with a certificate of nobody; the certificate."""
        files = ["-keyout", "key.pem", "-out", "cert.pem"]
        name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.socket, self.scheme = context.wrap_socket(self.socket, server_side=True), "https"
        return folder / "cert.pem"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({"path": self.path, **self.headers})
        if server.raw:
            self.close_connection = True
            self.wfile.write(server.raw)
            return None
        if server.statuses:
            return self._empty(server.statuses.pop(0))
        if server.location:
            return self._empty(302, Location=server.location)
        start, asked = 0, self.headers.get("Range")
        if server.ranges and asked and (server.careless or self.headers.get("If-Range") in (None, server.etag)):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(server.content):
            return self._empty(416, **{"Content-Range": f"bytes */{len(server.content)}"})
        body = server.content[start:]
        self.send_response(206 if start else 200)
        for name, value in ({"ETag": server.etag} | server.headers).items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cut_after.pop(0) if server.cut_after else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
        return None

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetch_writes_the_file_and_its_digest(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "data.zip"
    assert fetch(server.url(), path, allow_http=True) == DIGEST
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["data.zip", "data.zip.sha256"]
    subprocess.run(["sha256sum", "--check", "--quiet", "data.zip.sha256"], cwd=path.parent, check=True)


def test_an_empty_file(server: Server, tmp_path: Path) -> None:
    server.content = b""
    assert fetch(server.url(), tmp_path / "empty", allow_http=True) == hashlib.sha256(b"").hexdigest()


@pytest.mark.fault("download", "the connection breaks off", "goes on where it stopped")
def test_a_broken_connection_resumes_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = [10 * CHUNK, 5 * CHUNK + 1, None]
    assert fetch(server.url(), tmp_path / "data.zip", allow_http=True) == DIGEST
    assert [request.get("Range") for request in server.requests] == [
        None,
        f"bytes={10 * CHUNK}-",
        f"bytes={15 * CHUNK}-",
    ]
    assert all(request["If-Range"] == '"v1"' for request in server.requests[1:])


@pytest.mark.fault("download", "the server goes away", "one message; the next run goes on where it stopped")
def test_the_next_run_resumes_what_the_last_one_left(server: Server, tmp_path: Path) -> None:
    server.cut_after = [8 * CHUNK] + [0] * 4
    with pytest.raises(StorageError, match="run again"):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    assert names(tmp_path) == ["data.zip.part", "data.zip.part.validator"]
    assert fetch(server.url(), tmp_path / "data.zip", allow_http=True) == DIGEST
    assert server.requests[-1]["Range"] == f"bytes={8 * CHUNK}-"


@pytest.mark.parametrize("change", ["content", "content unsaid", "no ranges", "weak etag", "other url"])
@pytest.mark.fault("download", "cannot be resumed: {change}", "begins anew")
def test_a_file_that_cannot_be_resumed_begins_anew(server: Server, tmp_path: Path, change: str) -> None:
    if change == "weak etag":
        server.etag = 'W/"v1"'
    server.cut_after = [8 * CHUNK] + [0] * 4
    with pytest.raises(StorageError):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    url = server.url()
    match change:
        case "content" | "content unsaid":  # some caches send the range of another file all the same
            server.content, server.etag = CONTENT[::-1], '"v2"'
            server.careless = change == "content unsaid"
        case "no ranges":
            server.ranges = False
        case "other url":
            url = server.url("/other.zip")
    fetch(url, tmp_path / "data.zip", allow_http=True)
    assert (tmp_path / "data.zip").read_bytes() == server.content


def test_a_complete_part_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.cut_after = [len(CONTENT) - CHUNK] + [0] * 4
    with pytest.raises(StorageError):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    with (tmp_path / "data.zip.part").open("ab") as part:
        part.write(CONTENT[-CHUNK:])
    assert fetch(server.url(), tmp_path / "data.zip", allow_http=True) == DIGEST
    assert server.requests[-1]["Range"] == f"bytes={len(CONTENT)}-"


@pytest.mark.fault("download", "another digest than expected", "refused; the good file stays")
def test_another_digest_than_expected_loses_nothing(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(b"the good one")
    with pytest.raises(StorageError, match=f"{DIGEST}, expected 00"):
        fetch(server.url(), path, sha256="0" * 64, allow_http=True)
    assert path.read_bytes() == b"the good one"
    count = len(server.requests)
    assert fetch(server.url(), path, sha256=DIGEST, allow_http=True) == DIGEST
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == count, "the kept download has the right digest"
    fetch(server.url(), path, sha256=DIGEST, allow_http=True)
    assert len(server.requests) == count, "the file is there already"


@pytest.mark.fault("download", "a corrupt file", "refused; the next run repairs it")
def test_a_corrupt_download_is_repaired_by_running_again(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * len(CONTENT)
    with pytest.raises(StorageError, match="expected"):
        fetch(server.url(), tmp_path / "data.zip", sha256=DIGEST, allow_http=True)
    server.content = CONTENT
    assert fetch(server.url(), tmp_path / "data.zip", sha256=DIGEST, allow_http=True) == DIGEST


@pytest.mark.fault("download", "a busy server", "asked again")
def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 500, 429]
    assert fetch(server.url(), tmp_path / "data.zip", allow_http=True) == DIGEST


@pytest.mark.fault("download", "a busy server that asks for a pause of a day", "asked again after seconds")
def test_a_server_does_not_say_how_long_to_wait(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    monkeypatch.setattr(download, "BACKOFF", 2.0)
    server.raw = b"HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(StorageError, match=r"the server is busy or failing \(503 Service Unavailable\)"):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    assert pauses == [2, 4, 8, 16]
    assert "busy or failing (503 Service Unavailable); next attempt in 16 s" in caplog.text


@pytest.mark.fault("download", "a server that does not encrypt", "asked again, then one message")
def test_a_server_that_does_not_speak_tls(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no encrypted connection"):
        fetch(server.url().replace("http:", "https:"), tmp_path / "data.zip")


@pytest.mark.fault("download", "the server says 404", "one message; nothing left")
def test_a_server_that_says_no(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(StorageError, match=r"answers 404.*Check the URL"):
        fetch(server.url("/data.zip?token=SECRET"), tmp_path / "data.zip", allow_http=True)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


@pytest.mark.fault("download", "a web page instead of the file", "refused")
def test_a_web_page_is_not_a_file(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(StorageError, match="web page"):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)


@pytest.mark.fault("download", "plain http", "refused unless the config allows it")
def test_http_is_refused_unless_allowed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"not https.*allow_http"):
        fetch(server.url(), tmp_path / "data.zip")
    assert not server.requests


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/data.zip", "gopher://localhost/"])
@pytest.mark.fault("download", "a redirect to {target}", "refused")
def test_redirects_to_other_schemes_are_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.location = target
    with pytest.raises(StorageError, match="redirects"):
        fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    assert names(tmp_path) == []


@pytest.mark.fault("download", "a redirect from https to http, a certificate that is not trusted", "refused")
def test_https_does_not_lead_to_http(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = server.encrypt(tmp_path)
    with pytest.raises(StorageError, match="certificate is not trusted"):
        fetch(server.url(), tmp_path / "data.zip")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert fetch(server.url(), tmp_path / "data.zip") == DIGEST
    server.location = "http://localhost/data.zip"
    with pytest.raises(StorageError, match="redirects"):
        fetch(server.url(), tmp_path / "other.zip")


FAULTS: dict[str, Callable[[Server, Path], object]] = {
    "403": lambda server, folder: setattr(server, "statuses", [403]),
    "403 and the token": lambda server, folder: setattr(
        server, "raw", b"HTTP/1.1 403 /data.zip?token=SECRET\r\nContent-Length: 0\r\n\r\n"
    ),
    "a busy server": lambda server, folder: setattr(server, "statuses", [503] * 10),
    "a broken connection": lambda server, folder: setattr(server, "cut_after", [0] * 10),
    "nobody there": lambda server, folder: server.server_close(),
    "a malformed header": lambda server, folder: setattr(server, "raw", b"HTTP/1.1 404 No\r\nbad line\r\nA: b\r\n\r\n"),
    "no HTTP at all": lambda server, folder: setattr(server, "raw", b"garbage\r\n\r\n"),
    "a bad chunk": lambda server, folder: setattr(
        server, "raw", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx"
    ),
    "a certificate of nobody": lambda server, folder: server.encrypt(folder),
    "a server without TLS": lambda server, folder: setattr(server, "scheme", "https"),
    "a redirect to ftp": lambda server, folder: setattr(
        server, "location", "ftp://user:SECRET@localhost/?token=SECRET"
    ),
    "a redirect to no address": lambda server, folder: setattr(server, "location", "https://[x?token=SECRET"),
    "a redirect in a circle": lambda server, folder: setattr(server, "location", "/data.zip?token=SECRET"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.fault("secrets", "a token in a URL and {fault}", "not in messages, logs or files")
def test_messages_hold_no_secrets(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    caplog.set_level("INFO")
    FAULTS[fault](server, tmp_path)
    with pytest.raises(StorageError) as error:
        fetch(server.url("/data.zip?token=SECRET"), tmp_path / "data.zip", allow_http=True)
    assert "data.zip" in str(error.value)
    assert "SECRET" not in str(error.value) + caplog.text
    assert all(b"SECRET" not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.fault("secrets", "a token in the environment", "in the request alone")
def test_tokens_come_from_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.url("/data.zip?token=${STORAGE_TOKEN}")
    with pytest.raises(ConfigError, match=r"data\.zip: the environment variable STORAGE_TOKEN is not set"):
        fetch(url, tmp_path / "data.zip", allow_http=True)
    monkeypatch.setenv("STORAGE_TOKEN", "SECRET")
    server.cut_after = [CHUNK]
    assert fetch(url, tmp_path / "data.zip", allow_http=True) == DIGEST
    assert [request["path"] for request in server.requests] == 2 * ["/data.zip?token=SECRET"]
    assert all(b"SECRET" not in path.read_bytes() for path in tmp_path.iterdir())


def test_credentials_come_from_netrc(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login someone password SECRET\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(server.url(), tmp_path / "data.zip", allow_http=True)
    assert server.requests[0]["Authorization"].startswith("Basic ")


def test_disk_full(server: Server, small_disk: Path) -> None:
    with pytest.raises(StorageError, match="no space left"):
        fetch(server.url(), small_disk / "data.zip", allow_http=True)
    assert not (small_disk / "data.zip").exists()


def test_verify(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(CONTENT)
    assert verify(archive, None) == verify(archive, DIGEST) == DIGEST
    with pytest.raises(StorageError, match="Correct sha256"):
        verify(archive, "0" * 64)
    assert archive.exists()


def test_locations() -> None:
    assert local_path("data/x.zip") == Path("data/x.zip")
    assert local_path("file:data/x y.zip") == Path("data/x y.zip")
    assert local_path("file:///data/x.zip") == Path("/data/x.zip")
    assert local_path("~/x.zip") == Path.home() / "x.zip"
    assert local_path("https://example.org/x.zip") is None
    assert shown("https://me:secret@example.org/x.zip?token=secret") == "https://example.org/x.zip"


@pytest.mark.parametrize(
    "location",
    [
        "ftp://example.org/x",
        "s3://bucket/x",
        "https://me:secret@example.org/x.zip",
        "https://[x?token=secret",
        "https://me:secret@exa\u2100mple.org/x?token=secret",
    ],
)
@pytest.mark.fault("download", "{location}", "refused")
def test_refused_locations(location: str) -> None:
    with pytest.raises(ConfigError) as error:
        local_path(location)
    assert "secret" not in str(error.value)
