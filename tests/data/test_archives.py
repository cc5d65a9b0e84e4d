"""Archives made to do harm, damaged ones, and good ones of every kind."""

import contextlib
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fungi_audio.errors import DataError, FungiError, StorageError
from fungi_audio.files.archives import unpack

GOOD = {"top/a.wav": b"a" * 5000, "top/sub/ü b.wav": b"b", "top/-rf; touch PWNED.wav": b""}


def write_zip(path: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def write_tar(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, content in members:
            info = entry(name) if isinstance(name, str) else name
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where to unpack: in a folder of its own, so that whatever else appears is seen."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder / "raw"


def refused(archive: Path, target: Path, message: str, max_gigabytes: float = 1) -> None:
    before = set(target.parent.parent.rglob("*"))
    with pytest.raises(DataError, match=message):
        unpack(archive, target, max_gigabytes)
    assert set(target.parent.parent.rglob("*")) == before, "something was left behind"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tar(tmp_path: Path, target: Path, mode: str, form: int) -> None:
    archive = tmp_path / "misnamed.zip"
    with tarfile.open(archive, mode, format=form) as packed:  # type: ignore[call-overload]
        packed.addfile(entry("./", tarfile.DIRTYPE))
        packed.addfile(entry("./empty/", tarfile.DIRTYPE))
        for name, content in (GOOD | {"top/" + 200 * "n": b"long"}).items():
            packed.addfile(entry(f"./{name}", size=len(content)), io.BytesIO(content))
    unpack(archive, target, 1)
    assert contents(target) == GOOD | {"top/" + 200 * "n": b"long"}
    assert (target / "empty").is_dir()
    assert names(target.parent) == {"raw"}


def test_zip(tmp_path: Path, target: Path) -> None:
    unpack(write_zip(tmp_path / "a.tar", GOOD.items()), target, 1)
    assert contents(target) == GOOD


def test_an_existing_folder_is_replaced(tmp_path: Path, target: Path) -> None:
    target.mkdir()
    (target / "old").touch()
    unpack(write_zip(tmp_path / "a.zip", GOOD.items()), target, 1)
    assert contents(target) == GOOD


def test_zip_names_in_utf8_without_the_flag(tmp_path: Path, target: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("ü.wav", b"a")])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset + 1] &= ~0x08
    archive.write_bytes(data)
    unpack(archive, target, 1)
    assert contents(target) == {"ü.wav": b"a"}


def test_links_inside_become_hard_links(tmp_path: Path, target: Path) -> None:
    members = [
        (entry("data/link.wav", tarfile.SYMTYPE, "../top/a.wav"), b""),
        ("top/a.wav", b"a"),
        (entry("hard.wav", tarfile.LNKTYPE, "top/a.wav"), b""),
    ]
    unpack(write_tar(tmp_path / "a.tar", members), target, 1)
    assert contents(target) == {"top/a.wav": b"a", "data/link.wav": b"a", "hard.wav": b"a"}
    assert not any(path.is_symlink() for path in target.rglob("*"))


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "top/..", ".."])
@pytest.mark.fault("archive", "a member {name!r} (path traversal)", "refused by name; nothing left")
def test_traversal(tmp_path: Path, target: Path, name: str) -> None:
    refused(write_tar(tmp_path / "a.tar", [("good", b""), (name, b"x")]), target, r"member '.*\.\.")
    refused(write_zip(tmp_path / "a.zip", [("good", b""), (name, b"x")]), target, "points outside")


@pytest.mark.parametrize("name", ["/etc/evil", "//evil", "C:/evil", "c:evil"])
@pytest.mark.fault("archive", "a member {name!r} (absolute path)", "refused by name; nothing left")
def test_absolute_paths(tmp_path: Path, target: Path, name: str) -> None:
    refused(write_tar(tmp_path / "a.tar", [(name, b"x")]), target, "absolute path")
    refused(write_zip(tmp_path / "a.zip", [(name, b"x")]), target, "absolute path")


@pytest.mark.parametrize("name", ["..\\evil", "a\\b"])
@pytest.mark.fault("archive", "a member {name!r} (backslash)", "refused by name; nothing left")
def test_backslashes(tmp_path: Path, target: Path, name: str) -> None:
    refused(write_tar(tmp_path / "a.tar", [(name, b"x")]), target, "backslash")
    refused(write_zip(tmp_path / "a.zip", [(name, b"x")]), target, "backslash")


@pytest.mark.fault("archive", "a name that is not UTF-8", "refused by name; nothing left")
def test_names_that_are_not_text(tmp_path: Path, target: Path) -> None:
    refused(write_tar(tmp_path / "a.tar", [(os.fsdecode(b"\xff.wav"), b"x")]), target, "not text")


@pytest.mark.fault("archive", "a member without a name", "refused; nothing left")
@pytest.mark.parametrize("name", ["", ".", "\0hidden"])
def test_members_without_a_name(tmp_path: Path, target: Path, name: str) -> None:
    refused(write_tar(tmp_path / "a.tar", [("good", b""), (name, b"x")]), target, "has no name")
    archive = write_zip(tmp_path / "a.zip", [("good", b""), ("X", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"X", (name or "\0")[:1].encode()))
    refused(archive, target, "has no name")


@pytest.mark.fault("archive", "a name of 300 bytes", "refused by name; nothing left")
def test_names_that_are_too_long(tmp_path: Path, target: Path) -> None:
    refused(write_tar(tmp_path / "a.tar", [("n" * 300, b"x")]), target, "more than 255 bytes")


@pytest.mark.parametrize("name", ["/".join(10 * ["n" * 200]), "/".join(2000 * ["a"])], ids=["long", "deep"])
@pytest.mark.fault("archive", "a path of more than 1,024 bytes, or of 2,000 folders", "refused by name; nothing left")
def test_paths_that_are_too_long(tmp_path: Path, target: Path, name: str) -> None:
    refused(
        write_tar(tmp_path / "a.tar", [(name, b"x")]), target, f"member '{name[:50]}.*' has a path of more than 1024"
    )
    refused(write_zip(tmp_path / "a.zip", [(name, b"x")]), target, "has a path of more than 1024 bytes")
    deep = "/".join(512 * ["a"])
    unpack(write_tar(tmp_path / "a.tar", [(deep, b"x")]), target, 1)
    assert contents(target) == {deep: b"x"}


@pytest.mark.parametrize("link", ["/etc/passwd", "../../secret", "missing", "top", "..", "top/a.wav/x", ""])
@pytest.mark.fault("archive", "a symbolic or hard link to {link!r}", "refused by name; nothing left")
def test_links_out(tmp_path: Path, target: Path, link: str) -> None:
    (target.parent / "secret").write_text("secret")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        members = [("top/a.wav", b"a"), (entry("x", kind, link), b"")]
        refused(write_tar(tmp_path / "a.tar", members), target, "member 'x' is a link to")
    info = zipfile.ZipInfo("x")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(write_zip(tmp_path / "a.zip", [("top/a.wav", b"a"), (info, link.encode())]), target, "'x' is a link to")


@pytest.mark.fault("archive", "a member below a link out of the folder", "refused by name; nothing written outside")
def test_writing_through_a_link(tmp_path: Path, target: Path) -> None:
    outside = target.parent / "outside"
    outside.mkdir()
    members = [(entry("x", tarfile.SYMTYPE, str(outside)), b""), ("x/evil", b"x")]
    refused(write_tar(tmp_path / "a.tar", members), target, "'x/evil' makes 'x' a file and a folder")
    assert names(outside) == set()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
@pytest.mark.fault("archive", "a device, a pipe (type {kind!r})", "refused by name; nothing left")
def test_devices(tmp_path: Path, target: Path, kind: bytes) -> None:
    refused(write_tar(tmp_path / "a.tar", [(entry("dev", kind), b"")]), target, "member 'dev' is a device")


@pytest.mark.fault("archive", "a device in a zip, a file with a password", "refused by name; nothing left")
def test_zip_devices_and_passwords(tmp_path: Path, target: Path) -> None:
    info = zipfile.ZipInfo("dev")
    info.external_attr = stat.S_IFCHR << 16
    refused(write_zip(tmp_path / "a.zip", [(info, b"")]), target, "member 'dev' is a device")
    archive = write_zip(tmp_path / "b.zip", [("a", b"a")])
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    refused(archive, target, "member 'a' is a file that needs a password")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.fault(
    "archive",
    "members that appear twice, or differ in case or Unicode composition only",
    "refused by name; nothing left",
)
def test_duplicates_and_case(tmp_path: Path, target: Path) -> None:
    for pair, message in {
        ("a", "a"): "'a' appears twice",
        ("a", "./a"): "'./a' appears twice",
        ("a/b", "A/c"): "'A/c' differs from 'a' only in case",
        ("STRASSE", "straße"): "only in case",
        ("\u00e9", "e\u0301"): "only in case",
        ("a", "a/b"): "'a/b' makes 'a' a file and a folder",
        ("a/b", "a"): "'a' (appears twice|makes 'a' a file and a folder)",
    }.items():
        members = [(name, b"") for name in pair]
        refused(write_tar(tmp_path / "a.tar", members), target, message)
        if "./a" not in pair:
            refused(write_zip(tmp_path / "a.zip", members), target, message)


@pytest.mark.fault("archive", "a declared size above the limit", "refused by name before anything is written")
def test_declared_bombs(tmp_path: Path, target: Path) -> None:
    members = [("small", b"x"), ("big", b"\0" * 3_000_000)]
    for archive in (
        write_zip(tmp_path / "a.zip", members),
        write_tar(tmp_path / "a.tar.gz", members, "w:gz"),
        write_tar(tmp_path / "a.tar.xz", members, "w:xz"),
    ):
        assert archive.stat().st_size < 10_000
        refused(archive, target, "'big' brings the unpacked size above max_gigabytes: 0.002", max_gigabytes=0.002)
        unpack(archive, target, max_gigabytes=0.004)
        assert (target / "big").stat().st_size == 3_000_000


@pytest.mark.fault("archive", "very many empty members", "refused; nothing left")
def test_many_empty_members_are_a_bomb(tmp_path: Path, target: Path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", [(f"f{n}", b"") for n in range(300)], "w:gz")
    refused(archive, target, "above max_gigabytes", max_gigabytes=0.001)


@pytest.mark.fault("archive", "a zip that holds more than it declares", "refused; nothing left")
def test_a_zip_that_declares_less_than_it_holds(tmp_path: Path, target: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("big", b"\0" * 3_000_000)])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    refused(archive, target, "damaged", max_gigabytes=0.002)


@pytest.mark.fault("archive", "endless zeros after the end, a huge header", "refused; nothing left")
def test_zeros_after_the_end_and_huge_headers(tmp_path: Path, target: Path) -> None:
    plain = write_tar(tmp_path / "a.tar", [("a", b"a")]).read_bytes()
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(plain + b"\0" * 3_000_000))
    refused(archive, target, "expands above max_gigabytes", max_gigabytes=0.002)
    header = entry("pax", tarfile.XHDTYPE, size=1 << 30).tobuf(tarfile.USTAR_FORMAT)
    archive.write_bytes(gzip.compress(header + b"\0" * 10_000))
    refused(archive, target, "extended header of 1073741824 bytes")


@pytest.mark.fault("archive", "cut short at many places", "refused; nothing left")
def test_truncated(tmp_path: Path, target: Path) -> None:
    members = [(name, os.urandom(3000)) for name in ("a", "b")]
    for archive in (
        write_zip(tmp_path / "a.zip", members),
        write_tar(tmp_path / "a.tar", members),
        write_tar(tmp_path / "a.tar.gz", members, "w:gz"),
        write_tar(tmp_path / "a.tar.bz2", members, "w:bz2"),
        write_tar(tmp_path / "a.tar.xz", members, "w:xz"),
    ):
        whole = archive.read_bytes()
        ends = len(whole.rstrip(b"\0")) if archive.suffix == ".tar" else len(whole)
        for keep in (0, 1, 100, ends // 2, ends - 1):
            archive.write_bytes(whole[:keep])
            refused(archive, target, "damaged, cut short or not a zip or tar")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.fault("archive", "cut short inside a member", "refused by name; nothing left")
def test_truncated_inside_a_member(tmp_path: Path, target: Path, mode: str) -> None:
    """Of an archive in one compressed piece, as much as can be read is read."""
    archive = write_tar(tmp_path / "a.tar", [("top/a", os.urandom(300_000)), ("top/b", os.urandom(3_000_000))], mode)
    os.truncate(archive, archive.stat().st_size * 3 // 4)
    refused(archive, target, "is damaged, cut short .* at or after member 'top/b'")
    archive = write_zip(tmp_path / "a.zip", [("top/a", b"a"), ("top/b", os.urandom(3000))])
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    refused(archive, target, "is damaged, cut short .* at or after member 'top/b'")


@pytest.mark.parametrize("pack", [lambda tar: tar, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.fault("archive", "two tar archives one after the other", "refused; nothing left")
def test_two_archives_in_one_file(tmp_path: Path, target: Path, pack: Callable[[bytes], bytes]) -> None:
    parts = [write_tar(tmp_path / name, [(name, b"x")]).read_bytes() for name in ("a", "b")]
    archive = tmp_path / "archive"
    archive.write_bytes(pack(parts[0]) + pack(parts[1]))
    refused(archive, target, "goes on after its end")
    archive.write_bytes(gzip.compress(parts[0][:700]) + gzip.compress(parts[0][700:]))
    unpack(archive, target, 1)
    assert contents(target) == {"a": b"x"}


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header with a size in GNU's binary form, which can be negative."""
    header = bytearray(entry(name, kind).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("size", [-512, -1, -(10**15)])
@pytest.mark.fault("archive", "a size of {size} (tar, type {kind!r})", "refused by name; nothing left")
def test_negative_sizes(tmp_path: Path, target: Path, size: int, kind: bytes) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_header("n", size, kind) + b"\0" * 1024)
    refused(archive, target, f"member 'n' declares {size} bytes")


@pytest.mark.fault("archive", "a negative size in an extended header", "refused by name; nothing left")
def test_negative_sizes_in_extended_headers(tmp_path: Path, target: Path) -> None:
    info = entry("n")
    info.pax_headers = {"size": "-512"}
    refused(write_tar(tmp_path / "a.tar", [(info, b"")]), target, "member 'n' declares -512 bytes")


@pytest.mark.fault("archive", "a tar cut between two members", "refused; nothing left")
def test_a_tar_cut_between_members(tmp_path: Path, target: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", [("a", b"x" * 512), ("b", b"x")])
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, target, "where a member or the archive's end should be")


@pytest.mark.fault("archive", "a damaged member", "refused; nothing left")
def test_a_damaged_member(tmp_path: Path, target: Path) -> None:
    for archive in (
        write_zip(tmp_path / "a.zip", [("a", os.urandom(3000))]),
        write_tar(tmp_path / "a.tar.gz", [("a", os.urandom(3000))], "w:gz"),
    ):
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 0xFF
        archive.write_bytes(data)
        refused(archive, target, "damaged")


@pytest.mark.parametrize("content", [b"", b"PK", b"text", b"\x1f\x8b", b"<html>" * 200, os.urandom(2000)])
@pytest.mark.fault("archive", "something else than an archive", "refused; nothing left")
def test_not_an_archive(tmp_path: Path, target: Path, content: bytes) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(content)
    refused(archive, target, "not a zip or tar")


def test_no_archive(tmp_path: Path, target: Path) -> None:
    refused(tmp_path / "missing.zip", target, "missing.zip is not a file")


def test_disk_full(tmp_path: Path, small_disk: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("big", os.urandom(300_000))])
    with pytest.raises(StorageError, match="no space left"):
        unpack(archive, small_disk / "raw", 1)
    assert names(small_disk) == set()


@pytest.mark.fault("archive", "what a killed attempt left behind", "removed; unpacked afresh")
def test_an_interrupted_call_leaves_nothing_under_the_name(tmp_path: Path, target: Path) -> None:
    (target.parent / ".raw.part").mkdir()
    (target.parent / ".raw.part" / "stale").touch()
    unpack(write_zip(tmp_path / "a.zip", GOOD.items()), target, 1)
    assert contents(target) == GOOD


def test_fuzz_of_bytes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the bytes, an archive is unpacked inside the folder or refused with our own error."""
    folder = tmp_path_factory.mktemp("fuzz")
    members = [("top/a.wav", b"a" * 600), ("top/b.wav", b"")]
    makers: list[Callable[[], Path]] = [
        lambda: write_zip(folder / "good", members),
        lambda: write_tar(folder / "good", members),
        lambda: write_tar(folder / "good", members, "w:gz"),
        lambda: write_tar(folder / "good", members, "w:xz"),
    ]
    good = [maker().read_bytes() for maker in makers]

    @settings(max_examples=400, deadline=None)
    @given(
        st.sampled_from(good), st.lists(st.tuples(st.floats(0, 0.99), st.binary(min_size=1, max_size=8)), max_size=4)
    )
    def damage(data: bytes, edits: list[tuple[float, bytes]]) -> None:
        changed = bytearray(data)
        for where, piece in edits:
            at = int(where * len(changed))
            changed[at : at + len(piece)] = piece
        (folder / "archive").write_bytes(changed)
        with contextlib.suppress(FungiError):
            unpack(folder / "archive", folder / "place" / "raw", 0.001)
        assert names(folder) <= {"good", "archive", "place"}
        assert names(folder / "place") <= {"raw"}

    damage()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("aA./\\é\u0301ß\n:-"), min_size=1, max_size=8), max_size=5))
def test_fuzz_of_names(tmp_path_factory: pytest.TempPathFactory, members: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    archive = write_tar(folder / "a.tar", [(name, b"x") for name in members])
    try:
        unpack(archive, folder / "place" / "raw", 1)
    except DataError:
        pass
    else:
        found = contents(folder / "place" / "raw")
        assert len({name.casefold() for name in found}) == len(members)
    assert names(folder) <= {"a.tar", "place"}
    assert names(folder / "place") <= {"raw"}
