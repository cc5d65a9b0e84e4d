"""Checkpoints from servers on the loopback device that do as Google Drive, Dropbox and the Hub do."""

import hashlib
import html
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from fungi_audio.errors import ConfigError, StorageError
from fungi_audio.files import download, sources
from fungi_audio.files import whole as files
from fungi_audio.files.sources import address, checkpoint_name, local, repository, retrieve

CONTENT = bytes(range(256)) * 2048  # 512 KiB
COMMIT = "c0ffee" * 6 + "abcd"
HUB = "owner/name-of.model"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Site(ThreadingHTTPServer):
    """Serves `files` by path and query, with ranges and ETags, and `pages` as HTML; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.cut_after: list[int] = []  # bytes sent of the next answers with a file
        self.requests: list[dict[str, str]] = []

    def url(self, path: str = "", host: str = "localhost") -> str:
        return f"http://{host}:{self.server_port}{path}"

    @property
    def asked(self) -> list[str]:
        return [request["path"] for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        site, path = self.server, self.path
        site.requests.append({"path": path, **self.headers})
        if path in site.pages:
            return self.answer(200, site.pages[path].encode(), {"Content-Type": "text/html; charset=utf-8"})
        if path in site.redirects:
            return self.answer(302, b"", {"Location": site.redirects[path]})
        if path not in site.files:
            return self.answer(404, b"{}", {"Content-Type": "application/json"})
        content, etag = site.files[path], f'"{sha(site.files[path])}"'
        start = 0
        if "Range" in self.headers and self.headers.get("If-Range") == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        ranges = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        return self.answer(206 if start else 200, content[start:], {"ETag": etag} | ranges, cut=True)

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut and self.server.cut_after:
            body, self.close_connection = body[: self.server.cut_after.pop(0)], True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    with Site() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Google Drive


@pytest.fixture
def drive(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Asks whether one is sure, as Drive does of large files: the form's hidden fields lead to another host."""
    monkeypatch.setattr(sources, "DRIVE", site.url("/uc?export=download&id="))
    fields = {"id": "ID-1_x", "export": "download", "confirm": "t", "uuid": "a&b"}
    inputs = "".join(
        f'<input type="hidden" name="{key}" value="{html.escape(value)}">' for key, value in fields.items()
    )
    site.pages["/uc?export=download&id=ID-1_x"] = (
        "<!DOCTYPE html><html><head><title>Virus scan warning</title></head><body><p class=uc-warning-caption>Google "
        '<form action="/search"><input type="hidden" name="q" value="no"></form>'
        f'<form id="download-form" action="{site.url("/download?authuser=0", "127.0.0.1")}" method="get">'
        f'{inputs}<input type="submit" id="uc-download-link" value="Download anyway"></form>'
        '<input type="hidden" name="outside" value="no"></body></html>'
    )
    site.files["/download?" + urlencode({"authuser": "0"} | fields)] = CONTENT
    return site


@pytest.mark.parametrize(
    "location",
    [
        "gdrive://ID-1_x",
        "https://drive.google.com/file/d/ID-1_x/view?usp=sharing",
        "https://drive.google.com/open?id=ID-1_x",
        "https://drive.google.com/uc?export=download&id=ID-1_x",
    ],
)
def test_a_large_file_on_google_drive(drive: Site, tmp_path: Path, location: str) -> None:
    assert retrieve([(location, sha(CONTENT))], tmp_path / "a.ckpt", allow_http=True) == sha(CONTENT)
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.ckpt", "a.ckpt.sha256"]
    assert len(drive.requests) == 2


def test_drive_goes_on_where_it_stopped(drive: Site, tmp_path: Path) -> None:
    """Each time through the page, whose form changes."""
    drive.cut_after = [300_000]
    assert retrieve([("gdrive://ID-1_x", None)], tmp_path / "a.ckpt", allow_http=True) == sha(CONTENT)
    ranges = [request.get("Range", "") for request in drive.requests if request["path"].startswith("/download")]
    assert ranges[0] == ""
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 300_000


@pytest.mark.fault("download", "Google Drive's quota is used up", "one message with the page's reason")
def test_no_file_on_google_drive(drive: Site, tmp_path: Path) -> None:
    drive.pages = {
        "/uc?export=download&id=ID-1_x": '<p class="uc-error-caption">Sorry</p><p class="uc-error-subcaption">Too many '
        "users have\n viewed <b>this</b> file\x1b[2J recently.</p><p>Another text</p>"
    }
    with pytest.raises(StorageError, match=r"web page.*says: Too many users have viewed") as caught:
        retrieve([("gdrive://ID-1_x", None)], tmp_path / "a.ckpt", allow_http=True)
    assert "\x1b" not in str(caught.value)
    assert "Another" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.fault("download", "a page behind the page", "refused")
def test_a_page_behind_the_page(drive: Site, tmp_path: Path) -> None:
    drive.pages |= dict.fromkeys(drive.files, drive.pages["/uc?export=download&id=ID-1_x"])
    with pytest.raises(StorageError, match="leads to a web page"):
        retrieve([("gdrive://ID-1_x", None)], tmp_path / "a.ckpt", allow_http=True)
    assert len(drive.requests) == 2


@pytest.mark.fault("download", "a page whose form leads to {target}", "refused")
@pytest.mark.parametrize("target", ["ftp://localhost/x", "file:///etc/passwd", "https://[x"])
def test_a_form_that_leads_elsewhere(drive: Site, tmp_path: Path, target: str) -> None:
    drive.pages = {"/uc?export=download&id=ID-1_x": f'<form id="download-form" action="{target}"></form>'}
    with pytest.raises(StorageError, match=r"not https|cannot be downloaded"):
        retrieve([("gdrive://ID-1_x", None)], tmp_path / "a.ckpt", allow_http=True)
    assert names(tmp_path) == []


# The Hub


REPOSITORY = {
    "config.json": b'{"model_type": "x"}',
    "preprocessor_config.json": b"{}",
    "README.md": b"about",
    "model.safetensors": CONTENT,
    "pytorch_model.bin": b"pickle",
    "modeling_x.py": b"raise SystemExit",
}
WANTED = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HF_ENDPOINT", site.url())
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    publish(site, REPOSITORY)
    return site


def publish(site: Site, files: dict[str, bytes], revision: str = "main", commit: str = COMMIT) -> None:
    """A revision as the Hub has it: small files in git, weights by their SHA-256, on another host."""
    siblings = []
    for name, content in files.items():
        lfs = {"sha256": sha(content), "size": len(content), "pointerSize": 134}
        large = name.endswith((".safetensors", ".bin"))
        siblings.append({"rfilename": name, "size": len(content), "blobId": "0", **({"lfs": lfs} if large else {})})
        for known in (commit, revision):
            stored = f"/{commit}/{name}" if large else ""
            if stored:
                site.redirects[f"/{HUB}/resolve/{quote(known, safe='')}/{name}"] = site.url(stored, "127.0.0.1")
            site.files[stored or f"/{HUB}/resolve/{quote(known, safe='')}/{name}"] = content
    info = {"_id": "1", "id": HUB, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0, "private": False}
    path = f"/api/models/{HUB}/revision/{quote(revision, safe='')}?blobs=true"
    site.files[path] = site.files[path.replace("true", "True")] = json.dumps(info).encode()


def folder_digest(folder: Path) -> str:
    """As ``sha256sum * | sha256sum`` says it."""
    lines = [f"{sha((folder / name).read_bytes())}  {name}\n" for name in names(folder)]
    return sha("".join(lines).encode())


def test_a_repository(hub: Site, tmp_path: Path) -> None:
    """Weights as safetensors and what says what they are, of one commit; no code, no pickle."""
    digest = retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert names(tmp_path) == ["a", "a.sha256"]
    assert names(tmp_path / "a") == WANTED
    assert all((tmp_path / "a" / name).read_bytes() == REPOSITORY[name] for name in WANTED)
    assert digest == folder_digest(tmp_path / "a") == (tmp_path / "a.sha256").read_text().split()[0]
    assert all(COMMIT in path for path in hub.asked if "/resolve/" in path)
    count = len(hub.requests)
    assert retrieve([(f"hf://{HUB}", digest)], tmp_path / "a", allow_http=True) == digest
    assert len(hub.requests) == count, "it is there already"


def test_the_digest_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    """A clone's history and folders beside the files do not count; sha256sum agrees."""
    for name, content in REPOSITORY.items():
        (tmp_path / name).write_bytes(content)
    before = files.sha256(tmp_path)
    for folder in (".git", "onnx"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model").write_bytes(b"other")
    (tmp_path / ".gitattributes").write_bytes(b"x")
    command = "LC_ALL=C sha256sum * 2>/dev/null | sha256sum"
    said = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert files.sha256(tmp_path) == before == said.split()[0]


def test_the_token_goes_to_the_hub_alone(hub: Site, tmp_path: Path) -> None:
    retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    sent = {request["path"]: request.get("Authorization", request.get("authorization")) for request in hub.requests}
    assert sent[f"/{HUB}/resolve/{COMMIT}/config.json"] == "Bearer hf_SECRET"
    assert sent[f"/{COMMIT}/model.safetensors"] is None


def test_revisions(hub: Site, tmp_path: Path) -> None:
    for revision, commit in {"refs/pr/2": "2" * 40, "v1.0": "3" * 40, "a/branch": "4" * 40}.items():
        publish(hub, {"model.safetensors": revision.encode()}, revision, commit)
        written = revision if revision.startswith("refs/") else quote(revision, safe="")
        retrieve([(f"hf://{HUB}@{written}", None)], tmp_path / commit, allow_http=True)
        assert (tmp_path / commit / "model.safetensors").read_bytes() == revision.encode()
        retrieve([(f"hf://{HUB}@{written}/model.safetensors", None)], tmp_path / "one", allow_http=True)
        assert (tmp_path / "one").read_bytes() == revision.encode()


def test_one_file_of_a_repository(hub: Site, tmp_path: Path) -> None:
    location = f"hf://{HUB}/pytorch_model.bin"
    assert retrieve([(location, sha(b"pickle"))], tmp_path / "a.bin", allow_http=True) == sha(b"pickle")
    assert not any(path.startswith("/api") for path in hub.asked)
    with pytest.raises(StorageError, match=r"model\.bin cannot be downloaded: the server answers 404"):
        retrieve([(f"hf://{HUB}/model.bin", None)], tmp_path / "b.bin", allow_http=True)


SHARDED = {
    f"{stem}{suffix}": suffix.encode()
    for stem, suffix in [
        ("pytorch_model", ".bin.index.json"),
        ("pytorch_model-00001-of-00002", ".bin"),
        ("pytorch_model-00002-of-00002", ".bin"),
    ]
}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (SHARDED | {"x-00001-of-00002.bin": b"", "config.json": b""}, [*sorted(SHARDED), "config.json"]),
        (SHARDED | {"pytorch_model.bin": b"whole"}, ["pytorch_model.bin"]),
        (
            SHARDED | {"model.safetensors.index.json": b"", "model-00001-of-00001.safetensors": b"better"},
            ["model-00001-of-00001.safetensors", "model.safetensors.index.json"],
        ),
    ],
    ids=["sharded pickles", "a whole pickle", "sharded safetensors"],
)
def test_which_weights(hub: Site, tmp_path: Path, there: dict[str, bytes], expected: list[str]) -> None:
    publish(hub, there)
    retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert names(tmp_path / "a") == sorted(expected)


def test_a_repository_goes_on_where_it_stopped(hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in another run, and without what an older revision left."""
    weights = f"/{COMMIT}/model.safetensors"
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    hub.cut_after = [1 << 20, 300_000]  # the listing whole, of the weights a part
    with pytest.raises(StorageError, match="broke off"):
        retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert names(tmp_path) == ["a.part"]
    (tmp_path / "a.part" / "pytorch_model.bin").write_bytes(b"of an older revision")
    retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert names(tmp_path / "a") == WANTED
    assert [bool(request.get("Range")) for request in hub.requests if request["path"] == weights] == [False, True]


@pytest.mark.fault("download", "a repository of another digest than expected", "refused; the good one stays")
def test_another_digest_loses_nothing(hub: Site, tmp_path: Path) -> None:
    good = retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    publish(hub, REPOSITORY | {"model.safetensors": b"other"}, commit="5" * 40)
    with pytest.raises(StorageError, match=f"has SHA-256 .*, expected {'0' * 64}"):
        retrieve([(f"hf://{HUB}", "0" * 64)], tmp_path / "a", allow_http=True)
    assert folder_digest(tmp_path / "a") == good
    retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == b"other"


@pytest.mark.fault("download", "weights that are not what the Hub lists", "refused")
def test_weights_that_the_hub_does_not_know(hub: Site, tmp_path: Path) -> None:
    hub.files[f"/{COMMIT}/model.safetensors"] = b"tampered"
    with pytest.raises(StorageError, match=f"{sha(b'tampered')}, expected {sha(CONTENT)}"):
        retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)
    assert not (tmp_path / "a").exists()


@pytest.mark.fault("download", "a repository or revision that is not there", "one message")
@pytest.mark.parametrize("location", ["hf://owner/none", f"hf://{HUB}@none", "hf://owner/a--b"])
def test_no_such_repository(hub: Site, tmp_path: Path, location: str) -> None:
    with pytest.raises(StorageError, match=r"cannot be listed: .*Check name, revision") as caught:
        retrieve([(location, None)], tmp_path / "a", allow_http=True)
    assert "SECRET" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.fault("download", "a repository without weights", "refused, naming what there is")
def test_no_weights(hub: Site, tmp_path: Path) -> None:
    publish(hub, {"../model.safetensors": b"", "config.json": b"", "x.ckpt": b""})
    with pytest.raises(StorageError, match=r"has neither model\.safetensors .*x\.ckpt"):
        retrieve([(f"hf://{HUB}", None)], tmp_path / "a", allow_http=True)


@pytest.mark.fault("download", "a Hub over plain http", "refused unless the config allows it")
def test_http_is_refused(hub: Site, tmp_path: Path) -> None:
    for location in (f"hf://{HUB}", f"hf://{HUB}/model.safetensors", hub.url("/x.pth")):
        with pytest.raises(StorageError, match="not https"):
            retrieve([(location, None)], tmp_path / "a")
    assert not hub.requests


# Several places


def test_places_are_tried_in_turn(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.files = {"/wrong.pth": b"wrong", "/right.pth": CONTENT}
    places = [(site.url("/gone.pth"), None), (site.url("/wrong.pth"), "0" * 64), (site.url("/right.pth"), sha(CONTENT))]
    assert retrieve(places, tmp_path / "a.pth", allow_http=True) == sha(CONTENT)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert "answers 404" in caplog.text
    assert f"expected {'0' * 64}" in caplog.text
    count = len(site.requests)
    assert retrieve(places, tmp_path / "a.pth", allow_http=True) == sha(CONTENT)
    assert len(site.requests) == count, "what one of the places has is there already"


@pytest.mark.fault("download", "no place has the checkpoint", "one message with what was wrong with each")
def test_no_place_has_it(site: Site, tmp_path: Path) -> None:
    places = [(site.url("/a.pth?token=SECRET"), None), (site.url("/b.pth"), None)]
    with pytest.raises(StorageError, match=r"a\.pth cannot .*; .*b\.pth cannot") as caught:
        retrieve(places, tmp_path / "a.pth", allow_http=True)
    assert "SECRET" not in str(caught.value)


def test_the_beginning_at_one_place_is_not_continued_at_another(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    site.files = {"/one.pth": CONTENT[::-1], "/two.pth": CONTENT}
    site.cut_after = [300_000]
    retrieve([(site.url("/one.pth"), None), (site.url("/two.pth"), None)], tmp_path / "a.pth", allow_http=True)
    assert (tmp_path / "a.pth").read_bytes() == CONTENT


# Names


def test_locations() -> None:
    assert local("data/x.pth") == Path("data/x.pth")
    assert local("file:data/x.pth") == Path("data/x.pth")
    assert local("hf://a/b") is local("gdrive://x") is local("https://example.org/x.pth") is None
    assert repository("hf://a/b") == ("a/b", "main", "")
    assert repository("hf://a/b/c/d.bin") == ("a/b", "main", "c/d.bin")
    assert repository("hf://a/b@refs/pr/2/c.bin") == ("a/b", "refs/pr/2", "c.bin")
    assert repository("hf://a/b@x%2Fy") == ("a/b", "x/y", "")
    assert repository("https://example.org/hf://a/b") is None


def test_dropbox() -> None:
    assert address("https://www.dropbox.com/s/x/y.pth?dl=0") == "https://www.dropbox.com/s/x/y.pth?dl=1"
    assert address("https://www.dropbox.com/s/x/y.pth") == "https://www.dropbox.com/s/x/y.pth?dl=1"
    assert address("https://www.dropbox.com/scl/y.pth?rlkey=a%26b&dl=0").endswith("?rlkey=a%26b&dl=1")
    assert address("https://example.org/y.pth?dl=0") == "https://example.org/y.pth?dl=0"


@pytest.mark.fault("download", "{location}", "refused")
@pytest.mark.parametrize(
    "location",
    [
        "hf://name",
        "hf://a/b@",
        "hf://a/b@main@x",
        "hf://a/b/../x",
        "hf://a/b/c?token=secret",
        "hf:a/b",
        "gdrive://",
        "gdrive://a/b",
        "https://drive.google.com/drive/folders/x",
        "ftp://example.org/x",
        "https://me:secret@example.org/x",
    ],
)
def test_refused_locations(location: str) -> None:
    with pytest.raises(ConfigError) as caught:
        local(location)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("locations", "name"),
    [
        (["https://www.dropbox.com/s/x/SSAST-Base-Patch-400.pth?dl=1"], "a.pth"),
        (["https://example.org/model.safetensors"], "a.safetensors"),
        (["https://example.org/download.php?file=x.pth"], "a.ckpt"),
        (["gdrive://x"], "a.ckpt"),
        (["hf://a/b"], "a"),
        (["hf://a/b@refs/pr/2"], "a"),
        (["hf://a/b/c/pytorch_model.bin"], "a.bin"),
        (["https://example.org/x.pth", "hf://a/b/model.safetensors", "gdrive://x"], "a.pth"),
        (["hf://a/b", "hf://c/d@v1"], "a"),
    ],
)
def test_names(locations: list[str], name: str) -> None:
    assert checkpoint_name("a", locations) == name


def test_files_and_folders_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="files, others repositories"):
        checkpoint_name("a", ["hf://a/b", "https://example.org/x.pth"])
