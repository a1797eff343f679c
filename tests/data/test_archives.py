"""Archives and packed files: the same rows, in the limits, and nothing that harms."""

import bz2
import gzip
import lzma
import tarfile
import tracemalloc
import zipfile

import pytest
from data.packed import ROWS, jsonl, notes_of, parquet, places_of, rows_of, tarred, zipped

from accord.data import archives, compression
from accord.data.containers import locate
from accord.data.read import read
from accord.types import DataError

HALVES = {"d/p-10.jsonl": jsonl(ROWS[3:]), "d/p-2.jsonl": jsonl(ROWS[:3])}
JUNK = {
    "__MACOSX/d/._p.jsonl": b"\0\5\26\7",
    ".DS_Store": b"\0\0\0\1Bud1",
    "README.md": b"# pairs",
    "d/LICENSE": b"MIT",
    "d/dataset_info.json": b"{}",
}


@pytest.fixture
def written(tmp_path):
    def write(data, name="data"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return write


def zstd(data):
    return pytest.importorskip("zstandard").compress(data)


PACKS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
MEMBERS = {
    "a file": {"p.jsonl": jsonl()},
    "a file without a suffix": {"pairs": jsonl()},
    "a file beside what is no data": JUNK | {"d/p.jsonl": jsonl()},
    "a byte order mark": {"p.jsonl": b"\xef\xbb\xbf" + jsonl()},
    "UTF-16": {"p.jsonl": jsonl().decode().encode("utf-16")},
    "Parquet": {"p.parquet": parquet()},
    "a packed file": {"p.jsonl.gz": gzip.compress(jsonl())},
    "shards in the order of their numbers": HALVES,
    "shards the other way round": dict(reversed(HALVES.items())),
    "packed shards": {f"{name}.xz": lzma.compress(data) for name, data in HALVES.items()},
}
ARCHIVES = {
    "zip": zipped,
    "zip, stored": lambda files: zipped(files, zipfile.ZIP_STORED),
    "tar": tarred,
    "tar, GNU": lambda files: tarred(files, format=tarfile.GNU_FORMAT),
    "tar, ustar": lambda files: tarred(files, format=tarfile.USTAR_FORMAT),
    "tar.gz": lambda files: tarred(files, "w:gz"),
    "tar.xz": lambda files: tarred(files, "w:xz"),
    "tar.bz2": lambda files: tarred(files, "w:bz2"),
    "zip in gzip": lambda files: gzip.compress(zipped(files)),
}


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("archive", ARCHIVES)
def test_archives_are_known_by_their_content(written, archive, members):
    assert rows_of(written(ARCHIVES[archive](MEMBERS[members]))) == ROWS


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("times", ["once", "in two members", "with padding"])
def test_packed_files(written, pack, times):
    """`cat a.gz b.gz` is one file, and tapes pad with zeros."""
    data, squeeze = jsonl(), PACKS[pack]
    packed = {
        "once": lambda: squeeze(data),
        "in two members": lambda: squeeze(data[:50]) + squeeze(data[50:]),
        "with padding": lambda: squeeze(data) + bytes(512 * (pack != "zstd")),
    }[times]()
    assert rows_of(written(packed)) == ROWS
    assert rows_of(written(squeeze(parquet()))) == ROWS


@pytest.mark.parametrize("pack", PACKS)
def test_packed_files_that_are_cut_or_damaged(written, pack):
    packed = PACKS[pack](jsonl(ROWS * 300))
    with pytest.raises(DataError, match=f"the {pack} data is (cut short|damaged)"):
        rows_of(written(packed[: len(packed) // 2]))
    with pytest.raises(DataError, match=f"the {pack} data is (cut short|damaged)"):
        rows_of(written(packed[:-3]))
    with pytest.raises(DataError, match=f"the {pack} data is (cut short|damaged)"):
        rows_of(written(packed[:40] + b"\x55" * 40 + packed[80:]))


def test_what_was_read_is_noted_and_reaches_the_ledger(written):
    path = written(zipped(JUNK | {"d/p.jsonl": jsonl(), "d/notes.txt": b"x"}))
    expected = [
        "read from d/p.jsonl in the archive",
        "not read, since the name is no data file's: d/notes.txt",
    ]
    assert notes_of(path) == expected
    assert dict(read(path, max_rows=3).ledger.notes) == dict.fromkeys(expected, 3)


def test_rows_of_many_members_name_theirs(written):
    path = written(zipped(HALVES), "s.zip")
    assert places_of(path) == [
        (n, f"{path}/d/p-{2 if n < 4 else 10}.jsonl:{n if n < 4 else n - 3}") for n in range(1, 8)
    ]
    path = written(tarred(HALVES | {"d/p-2.jsonl": jsonl(ROWS[:2]) + b"{oops\n"}))
    with pytest.raises(DataError, match=r"data/d/p-2.jsonl:3\b"):
        read(written(tarred({"d/p-2.jsonl": b"\n\n{oops\n", "d/p-3.jsonl": b"{}"}), "bad/data"))
    bad = read(path).ledger.rejected[0]
    assert str(bad.origin) == f"{path}/d/p-2.jsonl:3"
    assert bad.as_dict()["file"] == f"{path}/d/p-2.jsonl" and bad.as_dict()["line"] == 3


def test_the_digest_is_of_the_archives_bytes(written):
    import hashlib

    path = written(zipped(HALVES))
    with locate(path) as source:
        assert source.digest() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("archive", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "archive is empty"),
        ({"README.md": b"x"}, "no data file in it"),
        ({"train.jsonl": b"{}", "test.jsonl": b"{}"}, "2 splits, and rows of several"),
        ({"a/p.jsonl": b"{}", "b/p.jsonl": b"{}"}, "2 folders of data files"),
        ({"p.jsonl": b"{}", "p.csv": b"a,b"}, "2 kinds of files"),
        ({"p.jsonl": b"{}", "p.jsonl.gz": gzip.compress(b"{}")}, "would be read twice"),
        ({"p-0-of-3.jsonl": b"{}", "p-2-of-3.jsonl": b"{}"}, "1 of 3 shards are missing: number 1"),
        ({"../p.jsonl": b"{}"}, "leads out of the folder"),
        ({"a/../../p.jsonl": b"{}"}, "leads out of the folder"),
        ({"/etc/p.jsonl": b"{}"}, "leads out of the folder"),
        ({"..\\p.jsonl": b"{}"}, "leads out of the folder"),
        ({"C:\\p.jsonl": b"{}"}, "leads out of the folder"),
        ({"p.jsonl": b"{}", "../README.md": b"x"}, "leads out of the folder"),
        ({"p.zip": zipped({"p.jsonl": jsonl()})}, "an archive inside a"),
        ({"p.tar": tarred({"p.jsonl": jsonl()})}, "an archive inside a"),
        ({"p.tar.gz": tarred({"p.jsonl": jsonl()}, "w:gz")}, "an archive inside a"),
    ],
    ids=lambda value: ",".join(value) or "none" if isinstance(value, dict) else "",
)
def test_archives_that_are_refused(written, archive, files, says):
    path = written(archive(files))
    with pytest.raises(DataError, match=says) as error:
        rows_of(path)
    assert str(error.value).startswith(str(path))


def test_splits_in_an_archive_are_named_with_a_command(written, tmp_path):
    import subprocess

    path = written(tarred({"my data/train.jsonl": jsonl(), "my data/test.jsonl": b"{}"}, "w:gz"))
    with pytest.raises(DataError, match="2 splits") as error:
        rows_of(path)
    commands = [line.split("    (")[0] for line in str(error.value).splitlines()[1:]]
    assert len(commands) == 2
    subprocess.run(commands[1], shell=True, check=True, cwd=tmp_path)
    assert rows_of(tmp_path / "train.jsonl") == ROWS


def _as(kind):
    def change(entry):
        entry.type, entry.size, entry.linkname = kind, 0, "/etc/passwd"

    return change


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "a symbolic link, 'p.jsonl'"),
        (tarfile.LNKTYPE, "a hard link, 'p.jsonl'"),
        (tarfile.CHRTYPE, "a device, 'p.jsonl'"),
        (tarfile.FIFOTYPE, "a named pipe, 'p.jsonl'"),
        (tarfile.GNUTYPE_SPARSE, "a file with holes, 'p.jsonl'"),
    ],
)
def test_entries_of_a_tar_archive_that_are_no_files(written, kind, says):
    with pytest.raises(DataError, match=says):
        rows_of(written(tarred({"p.jsonl": b"{}"}, change=_as(kind))))


def test_entries_of_a_zip_archive_that_are_no_files(written, tmp_path):
    link = zipfile.ZipInfo("p.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="a symbolic link, 'p.jsonl'"):
        rows_of(tmp_path / "link.zip")
    data = bytearray(zipped({"p.jsonl": jsonl()}))
    at = data.rfind(b"PK\1\2")
    data[at + 8] |= 1
    with pytest.raises(DataError, match="'p.jsonl' in the zip archive is encrypted"):
        rows_of(written(bytes(data)))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(DataError, match="packed by a method that is not read here"):
            rows_of(written(zipped({"p.jsonl": jsonl()}, method)))
    twice = zipfile.ZipFile(tmp_path / "twice.zip", "w")
    with pytest.warns(UserWarning, match="Duplicate name"), twice as archive:
        archive.writestr("p.jsonl", "{}")
        archive.writestr("p.jsonl", "[]")
    with pytest.raises(DataError, match="holds 'p.jsonl' twice"):
        rows_of(tmp_path / "twice.zip")


def test_archives_that_are_cut_or_damaged(written):
    whole = zipped({"p.jsonl": jsonl(ROWS * 50)})
    for at in (10, 60, len(whole) // 2, len(whole) - 10):
        with pytest.raises(DataError, match="zip archive is damaged or cut short"):
            rows_of(written(whole[:at]))
    with pytest.raises(DataError, match="zip archive is damaged or cut short"):
        rows_of(written(whole[:60] + b"\x55" * 20 + whole[80:]))
    data = jsonl(ROWS * 50)
    whole = tarred({"p.jsonl": data})
    end = 512 + -(-len(data) // 512) * 512
    for at in (700, end - 512, end):  # the last has all the data and no end mark
        with pytest.raises(DataError, match="tar archive is cut short"):
            rows_of(written(whole[:at]))
    with pytest.raises(DataError, match="damaged: a header's checksum"):
        rows_of(written(whole[:end] + b"x" * 512 + whole[end:]))
    with pytest.raises(DataError, match="something follows the end of the tar archive"):
        rows_of(written(whole + whole))
    with pytest.raises(DataError, match="xz data is cut short"):
        rows_of(written(tarred({"p.jsonl": data}, "w:xz")[:-20]))


def test_headers_of_a_tar_archive_are_bounded(written, monkeypatch):
    long = {"d/" + "x" * 300 + ".jsonl": jsonl()}
    assert rows_of(written(tarred(long))) == ROWS
    assert rows_of(written(tarred(long, format=tarfile.GNU_FORMAT))) == ROWS
    monkeypatch.setattr(archives, "TAR_EXTRA_BYTES", 200)
    with pytest.raises(DataError, match="a header of .* bytes, which no name needs"):
        rows_of(written(tarred(long)))
    monkeypatch.setattr(archives, "MEMBERS", 3)
    many = {f"{n}.jsonl": b"{}" for n in range(4)}
    for archive in (zipped, tarred):
        with pytest.raises(DataError, match="the archive holds over 3 files"):
            rows_of(written(archive(many)))
    monkeypatch.setattr(archives, "DIRECTORY_BYTES", 100)
    with pytest.raises(DataError, match="the directory of the zip archive takes"):
        rows_of(written(zipped(many)))


ZEROS = bytes(200_000_000)
BOMBS = {
    "bzip2": lambda: bz2.compress(ZEROS),
    "xz": lambda: lzma.compress(ZEROS, preset=0),
    "zip": lambda: zipped({"p.jsonl": b"{" + ZEROS}),
    "zip of Parquet": lambda: zipped({"p.parquet": b"PAR1" + ZEROS}),
    "tar.bz2": lambda: tarred({"p.jsonl": b"{" + ZEROS}, "w:bz2"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_fills_the_memory(bomb, written, monkeypatch):
    monkeypatch.setattr(compression, "BOMB_BYTES", 20_000_000)
    path = written(BOMBS[bomb]())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpack to over .* unpack it yourself"):
            rows_of(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_an_xz_file_that_asks_for_much_memory(written, monkeypatch):
    monkeypatch.setattr(compression, "XZ_MEMORY", 1 << 20)
    with pytest.raises(DataError, match="needs over 1 MiB to be unpacked"):
        rows_of(written(lzma.compress(jsonl())))
