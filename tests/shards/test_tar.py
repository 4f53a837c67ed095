"""Members of a tar are found where other readers find them; hostile and damaged archives are refused."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import DamageError, DatasetError
from shards.tar import scan_tar

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
part = st.text("abcé0_- ", min_size=1, max_size=30).filter(lambda text: text.strip(". "))


def archive(files: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT, **fields) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def scan(data: bytes) -> list[tuple[str, int, int]]:
    return [(member.name, member.offset, member.size) for member in scan_tar(memoryview(data), "x.tar")]


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.lists(part, min_size=1, max_size=6).map("/".join), st.binary(max_size=1500), min_size=1, max_size=5
    ),
    st.sampled_from(FORMATS[1:]),
)
def test_members_lie_where_tarfile_finds_them(files: dict[str, bytes], kind: int) -> None:
    data = archive(files, kind)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar]
    assert scan(data) == expected
    assert [data[offset : offset + size] for _, offset, size in scan(data)] == list(files.values())


def test_long_names_of_all_formats_are_read() -> None:
    name = "/".join(["folder" * 5] * 6) + "/file.jpg"
    for kind in FORMATS:
        assert scan(archive({name: b"x"}, kind))[0][0] == name
    longer = "/".join(["folder" * 5] * 20) + "/é.jpg"
    for kind in FORMATS[1:]:
        assert scan(archive({longer: b"x"}, kind))[0][0] == longer


def test_folders_and_dots_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "k.jpg").write_bytes(b"1")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "in", arcname=".")
    assert [name for name, _, _ in scan((tmp_path / "x.tar").read_bytes())] == ["a/k.jpg"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "a/..", "a\\b.jpg", "a\nb.jpg", "\x1b[31m.jpg"]
)
@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_lead_elsewhere_are_refused(name: str, kind: int) -> None:
    with pytest.raises(DatasetError, match=r"the name .* at byte \d+ is refused"):
        scan(archive({"fine.jpg": b"1", name: b"2"}, kind))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"V", "of the unknown kind"),
    ],
)
def test_links_and_devices_are_refused(kind: bytes, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        scan(archive({"k.jpg": b""}, type=kind, linkname="/etc/passwd"))


def test_a_long_link_is_refused() -> None:
    with pytest.raises(DatasetError, match="a link with a long target"):
        scan(archive({"k.jpg": b""}, tarfile.GNU_FORMAT, type=tarfile.SYMTYPE, linkname="x" * 200))


def test_a_name_that_comes_twice_is_refused() -> None:
    data = archive({"k.jpg": b"1", "./k.jpg": b"2"})
    with pytest.raises(DatasetError, match=r"holds 'k\.jpg' twice, again at byte 1024"):
        scan(data)


def test_sparse_files_and_global_names_are_refused() -> None:
    for pax in ({"GNU.sparse.major": "1"}, {"GNU.sparse.name": "x"}):
        with pytest.raises(DatasetError, match=r"states GNU\.sparse"):
            scan(archive({"k.jpg": b"1"}, tarfile.PAX_FORMAT, pax_headers=pax))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "evil"}) as tar:
        tar.addfile(tarfile.TarInfo("k.jpg"))
    with pytest.raises(DatasetError, match="states path"):
        scan(out.getvalue())


def test_compressed_archives_say_what_to_do(tmp_path: Path) -> None:
    for mode in ("gz", "bz2"):
        with tarfile.open(tmp_path / mode, f"w:{mode}") as tar:
            tar.addfile(tarfile.TarInfo("k.jpg"))
        with pytest.raises(DatasetError, match=r"is compressed.*unpack it to a plain tar"):
            scan((tmp_path / mode).read_bytes())


def test_a_cut_or_flipped_header_is_found_wherever_it_is() -> None:
    data = archive({f"k.{number:02d}.jpg": bytes([number]) * 700 for number in range(3)})
    used = 3 * (512 + 1024)
    for end in range(0, used + 513, 128):
        with pytest.raises(DamageError, match=r"cut off|ends at byte"):
            scan(data[:end])
    for start in (0, 1536, 3072):
        for byte in range(start, start + 512, 7):
            broken = bytearray(data)
            broken[byte] ^= 0x04
            with pytest.raises((DamageError, DatasetError)):
                scan(bytes(broken))
    with pytest.raises(DamageError, match="bytes follow the end of the archive"):
        scan(data[:used] + bytes(1024) + b"x" + bytes(511))
    with pytest.raises(DamageError, match="it is no tar"):
        scan(b"PK" * 600)


def test_a_size_that_reaches_beyond_the_file_or_memory_is_refused() -> None:
    with pytest.raises(DamageError, match="cut off"):
        scan(archive({"k.jpg": b""}, tarfile.PAX_FORMAT, pax_headers={"size": "123456789"}))
    with pytest.raises(DatasetError, match="the limit is 2 GiB"):
        scan(archive({"k.jpg": b""}, tarfile.PAX_FORMAT, pax_headers={"size": "9" * 15}))
    with pytest.raises(DamageError, match="states no size"):
        scan(archive({"k.jpg": b""}, tarfile.PAX_FORMAT, pax_headers={"size": "-5"}))
