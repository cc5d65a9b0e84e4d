"""From an archive to a folder: every member is checked before a byte of it is written.

Archives come from the internet. Refused are members that would land outside the folder, links to
anything but a file of the archive, devices, members that appear twice or differ only in case, and an
archive that expands beyond a limit or is damaged. Owners, modes and times of members are not kept.
"""

import bz2
import gzip
import lzma
import os
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, NoReturn, Self

from ..errors import DataError
from ..progress import progress
from .whole import whole_folder

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
BLOCK = 4096  # bytes on disk that the smallest member takes
MAX_NAME = 255  # bytes that file systems allow
MAX_PATH = 1024
MAX_HEADER = 1 << 20  # bytes of an extended tar header, which is read into memory
CHUNK = 1 << 20
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
)


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    kind: str  # "file", "folder", "link", or what else it is
    target: str  # of a link, relative to the archive's root
    open: Callable[[], Any]
    position: int  # bytes of the archive up to here


def unpack(archive: str | Path, folder: str | Path, max_gigabytes: float) -> None:
    """Unpack a zip or tar (plain, gzip, bzip2, xz) archive into a new folder, whole or not at all.

    Args:
        archive: its kind is told by its content, not by its name.
        folder: replaced when it exists.
        max_gigabytes: limit of what the members declare and of what they expand to, each counted with
            at least one disk block.

    Raises:
        DataError: a member is refused (it is named) or the archive is damaged.
        StorageError: `folder` cannot be written.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise DataError(f"{archive} is not a file; an archive was expected")
    contents = Contents(archive, max_gigabytes)
    links = []
    with _readable(contents), whole_folder(folder) as root, progress("unpack", archive.stat().st_size, "B") as bar:
        for member in _members(archive, contents):
            path = root / contents.admit(member)
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
            elif member.kind == "link":
                links.append((member, path))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, path.open("xb") as out:
                    shutil.copyfileobj(source, out, CHUNK)
            bar.update(member.position - bar.n)
        for member, path in links:
            if not (contents.has_file(member.target) and (root / member.target).is_file()):
                contents.refuse(member.name, f"is a link to {member.target!r}, which is not a file of the archive")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(root / member.target, path)


def caseless(path: str) -> str:
    """What a file system that ignores case (and Unicode's composed and decomposed forms) takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class Contents:
    """What was admitted from an archive so far."""

    def __init__(self, archive: Path, max_gigabytes: float) -> None:
        self.archive = archive
        self.limit = max_gigabytes
        self.declared = 0
        self.member = ""  # the last one whose header was read
        self.seen: dict[str, tuple[str, bool]] = {}  # by caseless path: path, is it a folder

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise DataError(f"{self.archive}: member {name!r} {reason}. Nothing was unpacked; is this the right archive?")

    def has_file(self, path: str) -> bool:
        return self.seen.get(caseless(path)) == (path, False)

    def declare(self, name: str, size: int) -> None:
        """Count what a member is going to take."""
        if size < 0:
            self.refuse(name, f"declares {size} bytes")
        self.declared += BLOCK + size
        if self.declared > self.limit * 1e9:
            self.refuse(name, f"brings the unpacked size above max_gigabytes: {self.limit:g}")

    def admit(self, member: Member) -> str:
        """The path of a member below the folder; refuses what must not be unpacked."""
        self.member = name = member.name
        path = PurePosixPath(name)
        if path.is_absolute() or re.match(r"[A-Za-z]:", name):
            self.refuse(name, "has an absolute path")
        if ".." in path.parts:
            self.refuse(name, "points outside the folder")
        if re.search(r"[\\\0\ud800-\udfff]", name):
            self.refuse(name, "has a backslash, a NUL or bytes that are not text in its name")
        if not path.parts and member.kind != "folder":
            self.refuse(name, "has no name")
        if any(len(part.encode()) > MAX_NAME for part in path.parts):
            self.refuse(name[:MAX_NAME], f"has a name of more than {MAX_NAME} bytes")
        if len(str(path).encode()) > MAX_PATH:
            self.refuse(name[:MAX_NAME], f"has a path of more than {MAX_PATH} bytes")
        if member.kind not in ("file", "folder", "link"):
            self.refuse(name, f"is a {member.kind}")
        if member.kind != "folder" and self.seen.get(caseless(str(path)), ("",))[0] == str(path):
            self.refuse(name, "appears twice")
        for parent in list(path.parents)[-2::-1]:
            self._enter(name, str(parent), True)
        self._enter(name, str(path), member.kind == "folder")
        return str(path)

    def _enter(self, name: str, path: str, is_folder: bool) -> None:
        known = self.seen.setdefault(caseless(path), (path, is_folder))
        if known[0] != path:
            self.refuse(name, f"differs from {known[0]!r} only in case")
        if known[1] != is_folder:
            self.refuse(name, f"makes {path!r} a file and a folder")


def _members(archive: Path, contents: Contents) -> Iterator[Member]:
    with archive.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(b"PK"):
            yield from _zip_members(raw, contents)
        else:
            openers = [opener for start, opener in OPENERS.items() if magic.startswith(start)]
            yield from _tar_members(raw, openers[0](raw) if openers else raw, contents)


def _zip_members(raw: IO[bytes], contents: Contents) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as packed:
        for info in packed.infolist():
            contents.declare(info.filename, info.file_size)
        for info in packed.infolist():
            kind, target = _zip_kind(info), ""
            name = _zip_name(info)
            if kind == "link":
                with packed.open(info) as content:
                    target = _resolved(name, content.read(BLOCK).decode(errors="replace"))
            position = info.header_offset + info.compress_size
            yield Member(name, kind, target, partial(packed.open, info), position)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name; some programs write UTF-8 without saying so, and Python then takes it for code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if info.flag_bits & 1:
        return "file that needs a password"
    if info.filename.endswith("/"):
        return "folder"
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "device"


def _tar_members(raw: IO[bytes], stream: Any, contents: Contents) -> Iterator[Member]:
    with tarfile.open(fileobj=_Limited(stream, contents), mode="r|", tarinfo=_Header, bufsize=CHUNK) as packed:  # type: ignore[call-overload]
        for info in packed:
            contents.declare(info.name, info.size)
            if info.issym():
                target = _resolved(info.name, info.linkname)
            else:
                target = posixpath.normpath(info.linkname) if info.islnk() else ""
            yield Member(info.name, _tar_kind(info), target, partial(packed.extractfile, info), raw.tell())
        while rest := packed.fileobj.read(CHUNK):
            if rest.strip(b"\0"):
                raise DataError(
                    f"{contents.archive} goes on after its end, as several tar archives in one file do. Nothing was "
                    "unpacked; unpack it by hand and give the folder, or pack it as one archive"
                )


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    return "file" if info.isfile() else "device"


def _resolved(name: str, target: str) -> str:
    """The target of a symbolic link, relative to the archive's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


class _Limited:
    """A decompressed stream that stops at the limit, whatever the members declare."""

    def __init__(self, stream: IO[bytes], contents: Contents) -> None:
        self.stream, self.contents = stream, contents
        self.left = contents.limit * 1e9

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            self.contents.refuse(self.contents.member, f"expands above max_gigabytes: {self.contents.limit:g}")
        return data


class _Header(tarfile.TarInfo):
    """A tar header that is an error when damaged or missing; Python takes both for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} where a member or the archive's end should be") from None
        if header.size < 0:
            raise tarfile.ReadError(f"member {header.name!r} declares {header.size} bytes")
        if not (header.isfile() or header.isdir()) and header.size > MAX_HEADER:
            raise tarfile.ReadError(f"an extended header of {header.size} bytes")
        return header


@contextmanager
def _readable(contents: Contents) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        where = f" at or after member {contents.member!r}" if contents.member else ""
        raise DataError(
            f"{contents.archive} is damaged, cut short or not a zip or tar archive{where}: {error}. Nothing was "
            "unpacked; delete the file and fetch it again"
        ) from error
