"""From a URL to a whole file: resumed after interruptions, checked, only over https unless allowed."""

import hashlib
import logging
import os
import re
import time
from http.client import responses
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from ..errors import ConfigError, StorageError
from ..progress import progress
from .confirmation import follow, is_page
from .provenance import shown
from .whole import sha256 as digest_of
from .whole import storage_errors, sync, write_text

log = logging.getLogger(__name__)

ATTEMPTS = 5  # in a row without a single byte
BACKOFF = 2.0  # seconds before the second attempt, doubled each time
TIMEOUT = 60.0
CHUNK = 1 << 16  # bytes; at most one is lost when the connection breaks off
BUSY = (429, 500, 502, 503, 504)


class Answer(NamedTuple):
    """What the server's headers say: the bytes that follow begin at `start` of a file of `total` bytes."""

    start: int
    total: int | None
    validator: str


def local_path(location: str) -> Path | None:
    """The path that a location (a path or ``file:…``) names; None for a URL.

    Raises:
        ConfigError: a URL of another scheme than https or http, or one with credentials in it; ~ of nobody.
    """
    if location.startswith("file:"):
        location = location.removeprefix("file://").removeprefix("file:")
    elif "://" in location:
        try:
            parts = urlsplit(location)
        except ValueError:
            raise ConfigError(f"{shown(location)} is not a URL") from None
        if parts.scheme not in ("https", "http"):
            raise ConfigError(f"{shown(location)}: only https:// URLs, paths and file: are allowed")
        if "@" in parts.netloc:
            raise ConfigError(
                f"{shown(location)} holds a user name or password; put it in ~/.netrc (or the file that $NETRC names)"
            )
        return None
    try:
        return Path(location).expanduser()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{location!r} is not a path: {error} Write ./~… for a name that begins with ~") from error


def fetch(
    url: str, path: str | Path, sha256: str | None = None, allow_http: bool = False, authorization: str | None = None
) -> str:
    """Download a file; it gets its name when it is complete and, where a digest is given, correct.

    An interrupted download lies beside it as ``{name}.part`` and goes on where it stopped when the
    server supports ranges and the file there is still the same (strong ETag or Last-Modified). A file
    that already has the expected digest is not downloaded again; one with another digest stays until a
    correct one replaces it. The digest is recorded in ``{name}.sha256``.

    Args:
        url: https, or http when `allow_http`. ``${NAME}`` in it stands for an environment variable, such as a
            token; names and passwords are read from ~/.netrc or $NETRC.
        path: where the file goes.
        sha256: the expected digest, hexadecimal.
        allow_http: also follow http URLs and redirects.
        authorization: the header of that name, for the URL's own host alone.

    Returns:
        The SHA-256 of the file.

    Raises:
        ConfigError: the URL names an environment variable that is not set.
        StorageError: no connection, refused by the server, redirected to another scheme, another digest
            than expected, or the file cannot be written.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if sha256 and _has(path, sha256):
            digest = sha256
        else:
            with _session(allow_http, authorization) as session:
                digest = _replace(session, url, path, sha256)
    record(path, digest, path.with_name(path.name + ".sha256"))
    return digest


def verify(path: str | Path, sha256: str | None) -> str:
    """The SHA-256 of a file.

    Raises:
        StorageError: it is not the expected one, where one is expected.
    """
    digest = digest_of(path)
    if sha256 not in (None, digest):
        raise StorageError(
            f"{path} has SHA-256 {digest}, expected {sha256}. Correct sha256 in the config if that is wrong; else "
            "delete the file and fetch it again"
        )
    return digest


def record(path: str | Path, digest: str, file: str | Path) -> None:
    """Write the digest of a file to another, as `sha256sum` does."""
    write_text(file, f"{digest}  {Path(path).name}\n")


def _replace(session: requests.Session, url: str, path: Path, sha256: str | None) -> str:
    """Complete the download beside `path`, check it, give it its name; the digest."""
    part = path.with_name(path.name + ".part")
    _with_variables(url)
    if not (sha256 and _has(part, sha256)):
        _complete(session, url, part)
    digest = digest_of(part)
    _validator_file(part).unlink(missing_ok=True)
    if sha256 not in (None, digest):
        raise StorageError(
            f"{shown(url)}: the file has SHA-256 {digest}, expected {sha256}. It is kept as {part}: correct "
            "sha256 in the config if that was wrong, or run again to download it anew"
        )
    sync(part)
    part.replace(path)
    sync(path.parent)
    return digest


def _with_variables(url: str) -> str:
    """The URL to ask for: secrets come from the environment, and nothing but the request holds them."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{shown(url)}: the environment variable {match[1]} is not set; export it and run again")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, url)


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and digest_of(path) == digest


def _complete(session: requests.Session, url: str, part: Path) -> None:
    """Download into `part`, again and again from where it broke off, until it is complete."""
    failures = 0
    while True:
        held = _size(part)
        try:
            return _transfer(session, url, part)
        except requests.exceptions.InvalidSchema:
            raise StorageError(
                f"{shown(url)} is, or redirects to, an address that is not https. Use an https URL"
                + (
                    ""
                    if "http://" in session.adapters
                    else ", or set `allow_http: true` in the config if plain http is meant"
                )
            ) from None
        except (requests.RequestException, ValueError) as error:  # ValueError: of a redirect to what is no URL
            failures = 1 if _size(part) > held else failures + 1
            reason, passing = _explain(error)
            if not passing or failures == ATTEMPTS:
                raise StorageError(
                    f"{shown(url)} cannot be downloaded: {reason}. Check the URL and the connection and run again; "
                    "what has arrived is kept"
                ) from None
            pause = BACKOFF * 2 ** (failures - 1)
            log.warning("%s: %s; next attempt in %g s", shown(url), reason, pause)
            time.sleep(pause)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _session(allow_http: bool, authorization: str | None) -> requests.Session:
    """A session that knows https (and http) only: a redirect to another scheme has no adapter.

    It asks once: urllib3's own attempts would wait for as long as a server says. What urllib3 logs holds whole
    URLs, tokens included; `_explain` says what there is to say.
    """
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    session = requests.Session()
    session.adapters.clear()
    for prefix in ["https://", "http://"] if allow_http else ["https://"]:
        session.mount(prefix, HTTPAdapter(max_retries=0))
    if authorization:
        session.headers["Authorization"] = authorization
    return session


def _explain(error: Exception) -> tuple[str, bool]:
    """Why a transfer failed and whether that may pass; without addresses, as redirects may carry tokens."""
    match error:
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "the server's certificate is not trusted", False
        case requests.exceptions.SSLError():
            return "no encrypted connection to the server", True
        case requests.Timeout():
            return f"no answer for {TIMEOUT:g} seconds", True
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke off", True
        case requests.exceptions.RetryError():
            return f"the server is busy or failing ({error})", True
        case requests.ConnectionError():
            return "no connection to the server", True
        case _:
            return type(error).__name__, False


def _transfer(session: requests.Session, url: str, part: Path) -> None:
    """One request for what is missing of `part`; returns when the file is complete."""
    held = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if held and (validator := _recall(part, url)):
        headers |= {"Range": f"bytes={held}-", "If-Range": validator}
    first = session.get(_with_variables(url), headers=headers, stream=True, timeout=TIMEOUT)
    with follow(session, first, shown(url), headers) as response:
        answer = _read_headers(response, url, part)
        if held and answer.start == answer.total:
            return
        _validator_file(part).write_text(f"{_key(url)} {answer.validator}", encoding="utf-8")
        with part.open("r+b" if answer.start else "wb") as file, progress("download", answer.total, "B") as bar:
            file.seek(answer.start)
            bar.initial = bar.n = answer.start
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if answer.total is not None and _size(part) != answer.total:
        raise requests.exceptions.ChunkedEncodingError


def _read_headers(response: requests.Response, url: str, part: Path) -> Answer:
    headers, held = response.headers, _size(part)
    ranges = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    first, total = (ranges[1], int(ranges[2])) if ranges else (None, None)
    etag = headers.get("ETag", "W/")
    validator = headers.get("Last-Modified", "") if etag.startswith("W/") else etag
    changed = validator not in ("", _recall(part, url))
    status = f"{response.status_code} {responses.get(response.status_code, '')}".strip()
    match response.status_code:
        case requests.codes.ok if is_page(response):
            raise StorageError(
                f"{shown(url)} leads to a web page, not to a file; use the address of the download itself"
            )
        case requests.codes.ok if "Content-Encoding" in headers:
            return Answer(0, None, "")
        case requests.codes.ok:
            length = headers.get("Content-Length", "")
            return Answer(0, int(length) if length.isdecimal() else None, validator)
        case requests.codes.partial_content if first == str(held) and not changed:
            return Answer(held, total, validator)
        case requests.codes.requested_range_not_satisfiable if total == held and not changed:
            return Answer(held, held, validator)
        case requests.codes.partial_content | requests.codes.requested_range_not_satisfiable:
            _validator_file(part).unlink(missing_ok=True)
            raise requests.exceptions.ChunkedEncodingError
        case code if code in BUSY:
            raise requests.exceptions.RetryError(status)
        case _:
            raise StorageError(
                f"{shown(url)} cannot be downloaded: the server answers {status}. Check the URL "
                "and whether it needs a login (~/.netrc)"
            )


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _recall(part: Path, url: str) -> str:
    """The validator (strong ETag or Last-Modified) of the file that `part` is the beginning of; "" if unknown."""
    path = _validator_file(part)
    key, _, validator = path.read_text(encoding="utf-8").partition(" ") if path.exists() else ("", "", "")
    return validator if key == _key(url) else ""
