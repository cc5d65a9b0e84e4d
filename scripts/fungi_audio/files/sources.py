"""Where checkpoints come from: https, Dropbox, Google Drive and the Hugging Face Hub; several places, tried in turn.

A checkpoint is one file, or (``hf://owner/name@revision`` without a file) a folder with the weights of a repository
and the JSON files that say what they are. Everything is downloaded by `download.fetch`, with its refusals.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

from ..errors import ConfigError, StorageError
from .download import fetch, local_path, record
from .provenance import shown
from .whole import sha256 as digest_of
from .whole import storage_errors, sync

log = logging.getLogger(__name__)

DRIVE = "https://drive.google.com/uc?export=download&id="
SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
WEIGHTS = (("model", "safetensors"), ("pytorch_model", "bin"))  # the better first
BESIDE = ("config.json", "preprocessor_config.json")
TIMEOUT = 60.0


class Repository(NamedTuple):
    """A place on the Hub: a file there, or ("") what there is of weights."""

    name: str
    revision: str
    file: str


def local(location: str) -> Path | None:
    """The path that the location of a checkpoint names; None for one to download.

    Raises:
        ConfigError: no location; a URL of an unknown scheme or with credentials.
    """
    if not repository(location):
        if not location.startswith("gdrive:") and (path := local_path(location)):
            return path
        address(location)
    return None


def repository(location: str) -> Repository | None:
    """The parts of ``hf://owner/name[@revision][/file]``; None for another location. A slash in a branch is ``%2F``.

    Raises:
        ConfigError: it begins like one.
    """
    if not location.startswith("hf:"):
        return None
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@(refs/\w+/[\w.%-]+|[\w.%-]+))?(?:/([^?#]+))?", location)
    if not match or ".." in (match[3] or "").split("/"):
        raise ConfigError(
            f"{shown(location)} is not hf://OWNER/NAME, hf://OWNER/NAME@REVISION or one of them with /FILE"
        )
    return Repository(match[1], unquote(match[2] or "main"), match[3] or "")


def address(location: str) -> str:
    """What to ask for at a location on the web: of shared links of Dropbox and Google Drive, the file itself.

    Raises:
        ConfigError: gdrive: without an ID.
    """
    parts = urlsplit(location)
    if parts.hostname in ("dropbox.com", "www.dropbox.com"):
        return urlunsplit(parts._replace(query=urlencode(parse_qs(parts.query) | {"dl": "1"}, doseq=True)))
    if parts.scheme == "gdrive" or parts.hostname == "drive.google.com":
        known = re.search(r"gdrive://([\w-]+)$|/file/d/([\w-]+)|[?&]id=([\w-]+)", location)
        if not known:
            raise ConfigError(
                f"{shown(location)} names no file; write gdrive://ID, as in the link drive.google.com/file/d/ID"
            )
        return DRIVE + next(filter(None, known.groups()))
    return location


def checkpoint_name(name: str, locations: Sequence[str]) -> str:
    """What a backbone's downloaded checkpoint is called: NAME, a folder, or a file NAME.pth, NAME.safetensors, …

    The suffix is for people: the first place's where its address tells, else .ckpt; files are read by their content.

    Raises:
        ConfigError: a location that is none, or some are files and others folders.
    """
    found = [repository(location) for location in locations]
    folders = {bool(one and not one.file) for one in found}
    if len(folders) > 1:
        raise ConfigError(f"backbone {name}: some of {', '.join(map(shown, locations))} are files, others repositories")
    if folders == {True}:
        return name
    suffix = PurePosixPath(found[0].file if found[0] else urlsplit(locations[0]).path).suffix
    return name + (suffix if suffix in SUFFIXES else ".ckpt")


def retrieve(places: Sequence[tuple[str, str | None]], path: str | Path, allow_http: bool = False) -> str:
    """Download a checkpoint from the first place that gives it, to what `checkpoint_name` calls it.

    Args:
        places: locations, each with the SHA-256 expected there; None records what comes.
        path: of the file or folder; a digest goes to ``{path}.sha256``.
        allow_http: as for `download.fetch`.

    Returns:
        The SHA-256 (`files.sha256`).

    Raises:
        ConfigError: as `download.fetch`.
        StorageError: no place gives it; what was wrong with each.
    """
    path = Path(path)
    expected = {sha256 for _, sha256 in places if sha256}
    if expected and path.exists() and (digest := digest_of(path)) in expected:
        record(path, digest, path.with_name(path.name + ".sha256"))
        return digest
    failures = []
    for location, sha256 in places:
        try:
            return _from(location, path, sha256, allow_http)
        except StorageError as error:
            failures.append(str(error))
            log.warning("%s", error)
    raise StorageError("; ".join(failures))


def _from(location: str, path: Path, sha256: str | None, allow_http: bool) -> str:
    place = repository(location)
    if not place:
        return fetch(address(location), path, sha256, allow_http)
    if place.file:
        return fetch(_url(place, place.file), path, sha256, allow_http, _authorization())
    return _folder(place, path, sha256, allow_http)


def _folder(place: Repository, path: Path, sha256: str | None, allow_http: bool) -> str:
    """A repository's weights and what says what they are, of one commit; the folder gets its name when it is whole."""
    commit, found = _listing(place, allow_http)
    part = path.with_name(path.name + ".part")
    names = _wanted(found, place)
    log.info("hf://%s@%s is commit %s: %s", place.name, place.revision, commit, ", ".join(names))
    for name in names:
        fetch(_url(place._replace(revision=commit), name), part / name, found[name], allow_http, _authorization())
    with storage_errors(path):
        for other in set(part.iterdir()) - {
            part / name for name in names
        }:  # digests, and what an earlier revision left
            other.unlink()
        digest = digest_of(part)
        if sha256 not in (None, digest):
            raise StorageError(
                f"hf://{place.name}@{place.revision}: the folder has SHA-256 {digest}, expected {sha256}. It is kept "
                f"as {part}: correct sha256 in the config if that was wrong"
            )
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
        sync(path.parent)
    record(path, digest, path.with_name(path.name + ".sha256"))
    return digest


def _wanted(names: Iterable[str], place: Repository) -> list[str]:
    """The files to download: weights, whole or in shards, safetensors before pickles; JSON files beside them."""
    there = sorted(names)
    beside = [name for name in there if name in BESIDE]
    for stem, suffix in WEIGHTS:
        if f"{stem}.{suffix}" in there:
            return [f"{stem}.{suffix}", *beside]
        if f"{stem}.{suffix}.index.json" in there:
            shards = [name for name in there if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", name)]
            return [f"{stem}.{suffix}.index.json", *shards, *beside]
    raise StorageError(
        f"hf://{place.name}@{place.revision} has neither model.safetensors nor pytorch_model.bin; name a file of it: "
        f"hf://{place.name}@{place.revision}/FILE, with FILE one of {', '.join(there[:20])}"
    )


def _listing(place: Repository, allow_http: bool) -> tuple[str, dict[str, str | None]]:
    """Commit of a revision, and its files with their SHA-256 where the Hub knows it."""
    from huggingface_hub import HfApi  # slow to import, seldom needed

    if not (_endpoint().startswith("https://") or allow_http):
        raise StorageError(f"HF_ENDPOINT is {shown(_endpoint())}, not https; set `allow_http: true` if that is meant")
    try:
        api = HfApi(endpoint=_endpoint())
        info: Any = api.model_info(place.name, revision=place.revision, files_metadata=True, timeout=TIMEOUT)
    except Exception as error:  # of three libraries, with addresses in their texts
        raise StorageError(
            f"hf://{place.name}@{place.revision} cannot be listed: {type(error).__name__}. Check name, revision and "
            "connection, and (HF_TOKEN) whether it needs a login"
        ) from error
    return info.sha, {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or []}


def _url(place: Repository, file: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(place.name, file, revision=place.revision, endpoint=_endpoint())


def _authorization() -> str | None:
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers().get("authorization")


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
