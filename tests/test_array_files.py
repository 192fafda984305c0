"""Hostile and damaged files: an error names each, nothing else comes out, and what they claim takes no memory."""

import contextlib
import gzip
import hashlib
import io
import random
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxnet import array_files
from jaxnet.array_files import DamagedFileError

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)
HUGE = 2**24  # bytes: what reading a file of a few kilobytes may take


def header(descr="'|u1'", shape="(3, 4)", order="False"):
    """The header of a .npy file of version 1.0."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.fixture
def archive(tmp_path):
    """A function that writes an .npz file whose entry x.npy has this content."""

    def write(content, packing=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as file:
            file.writestr("x.npy", content)
        return tmp_path / "a.npz"

    return write


def idx(array, lengths=None):
    """An IDX file of bytes, with these lengths in its header."""
    lengths = array.shape if lengths is None else lengths
    return bytes([0, 0, 8, len(lengths)]) + np.array(lengths, ">i4").tobytes() + array.tobytes()


def read(file):
    """Array x of an .npz file, or the array of an IDX file."""
    with contextlib.ExitStack() as opened:
        stored = array_files.npz(file, ["x"], opened)[0] if file.suffix == ".npz" else array_files.idx(file, opened)
        return stored.read()


@contextlib.contextmanager
def little_memory():
    """The block takes no more than HUGE at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < HUGE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "u8", "f2", ">f4", "f8"])
def test_what_numpy_saves_is_read(save, dtype, tmp_path):
    for array in (ARRAY.astype(dtype), np.asfortranarray(ARRAY, dtype), np.zeros((0, 3), dtype), np.array(5, dtype)):
        save(tmp_path / "a.npz", x=array, other=[1])
        with contextlib.ExitStack() as opened:
            (stored,) = array_files.npz(tmp_path / "a.npz", ["x"], opened)
            assert (stored.shape, stored.dtype) == (array.shape, array.dtype)
            np.testing.assert_array_equal(stored.read(), array)


def test_headers_of_other_writers_are_read(archive):
    text = b"{'descr':'|u1','fortran_order':False,'shape':(3,4)}"
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    np.testing.assert_array_equal(read(archive(start + text + ARRAY.tobytes())), ARRAY)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (header(shape="(1 << 40, 28)"), "is not an array of numbers"),
        (header(shape=f"({2**40}, 28, 28)"), f"holds 12 values but says \\({2**40}, 28, 28\\)"),
        (header(shape=f"({2**33},)"), "holds 12 values but says"),
        (header(shape=f"({2**70},)"), "holds 12 values but says"),
        (header(shape=f"({'9' * 199},)"), "holds 12 values but says"),
        (header(shape="(-3, -4)"), "is not an array of numbers"),
        (header(shape=f"({'1, ' * 65})"), "says it has 65 axes; expected at most 8"),
        (header(shape="(3, 3)"), r"holds 12 values but says \(3, 3\)"),
        (header("'<u8'", "(1,)"), r"holds 1.5 values but says \(1,\)"),
        (header("'<U3'", "(1,)"), "has dtype '<U3'; expected real numbers"),
        (header("'<c8'", "(1,)"), "has dtype '<c8'; expected real numbers"),
        (header("'|O'"), r"has dtype '\|O'; expected real numbers"),
        (header("'<M8[s]'"), "has dtype '<M8.s.'; expected real numbers"),
        (header("[('a', '|u1'), ('b', '|u1')]", "(6,)"), "is not an array of numbers"),
        (header("__import__('os')"), "is not an array of numbers"),
        (header("'|u1'", "(" * 5000), "is not an array of numbers"),
        (header().replace(b"\x01\x00", b"\x02\x00", 1), "is not an array of numbers"),
        (header()[:20], "is not an array of numbers"),
        (b"", "is not an array of numbers"),
    ],
)
def test_an_entry_that_claims_what_is_not_there_is_refused(start, message, archive):
    file = archive(start + ARRAY.tobytes())
    with little_memory(), pytest.raises(DamagedFileError, match=rf"a\.npz: x .*{message}"):
        read(file)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0", "begins with 0000"),
        (b"\0\0\x0d\x01\0\0\0\0", "is not an IDX file of bytes: it begins with 00000d01"),
        (idx(ARRAY)[:9], "says it has 2 axes but ends before their lengths"),
        (idx(ARRAY, [-3, -4]), r"says its shape is \(-3, -4\); expected no negative length"),
        (idx(ARRAY, [1] * 65), "says it has 65 axes; expected at most 8"),
        (idx(ARRAY, [1] * 255), "says it has 255 axes; expected at most 8"),
        (idx(ARRAY, [2**31 - 1] * 3), "holds .*.* values but says .*2147483647"),
        (idx(ARRAY, [3, 3]), r"holds .* values but says \(3, 3\); it is cut short or damaged"),
        (idx(ARRAY, [4, 4]), r"holds 12 values but says \(4, 4\); it is cut short or damaged"),
    ],
)
def test_an_idx_file_that_claims_what_is_not_there_is_refused(content, message, packed, tmp_path):
    file = tmp_path / ("a.gz" if packed else "a")
    file.write_bytes(gzip.compress(content) if packed else content)
    with little_memory(), pytest.raises(DamagedFileError, match=f"{file} .*{message}"):
        read(file)


def test_nothing_is_unpacked_beyond_what_is_allowed(archive, tmp_path, monkeypatch):
    """A kilobyte of zip can hold a megabyte of zeros, and more of it than a header says."""
    monkeypatch.setattr(array_files, "MOST_BYTES", 2**20)
    zeros = np.zeros(2**26, np.uint8)
    (tmp_path / "honest.gz").write_bytes(gzip.compress(idx(zeros)))
    (tmp_path / "longer.gz").write_bytes(gzip.compress(idx(zeros, [5])))
    entry = archive(header(shape=f"({zeros.size},)") + zeros.tobytes())
    for file, message in {
        entry: r"says \(67108864,\), 67,108,864 bytes; expected at most 1,048,576",
        tmp_path / "honest.gz": r"says \(67108864,\), 67,108,864 bytes; expected at most 1,048,576",
        tmp_path / "longer.gz": r"holds more values but says \(5,\)",
    }.items():
        assert file.stat().st_size < 2**18
        with little_memory(), pytest.raises(DamagedFileError, match=message):
            read(file)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_pack_is_not_unpacked(packing, archive):
    with pytest.raises(DamagedFileError, match=r"packed in a way that np\.savez_compressed does not use"):
        read(archive(header() + ARRAY.tobytes(), packing))


class Touch:
    """An object that makes a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return self.file.touch, ()


def test_nothing_is_unpickled(tmp_path):
    file, made = tmp_path / "a.npz", tmp_path / "made"
    np.savez(file, x=np.array([Touch(made)], object))
    with pytest.raises(DamagedFileError, match=r"x has dtype '\|O'; expected real numbers"):
        read(file)
    assert not made.exists()
    np.load(file, allow_pickle=True)["x"]
    assert made.exists()  # by who does


def test_what_is_not_an_archive_is_refused(tmp_path):
    file = tmp_path / "a.npz"
    for content in (b"", b"PK nonsense", header() + ARRAY.tobytes()):
        file.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"a\.npz is not an \.npz file with x: File is not a zip file"):
            read(file)
    np.savez(file, y=ARRAY)
    with pytest.raises(DamagedFileError, match=r"is not an \.npz file with x: There is no item named 'x.npy'"):
        read(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert array_files.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    for reader in (array_files.sha256, read):  # a directory
        with pytest.raises(DamagedFileError, match=f"{tmp_path} cannot be .*Is a directory"):
            reader(tmp_path)


@pytest.mark.parametrize("kind", ["np.savez", "np.savez_compressed", "idx", "idx.gz"])
def test_random_damage_is_named_or_harmless(kind, tmp_path):
    """Bits flipped, bytes lost and put in, the end cut off: the array as it was, or an error with the file's name."""
    file, stream, damage = tmp_path / ("a.npz" if kind.startswith("np") else kind), io.BytesIO(), random.Random(kind)
    if kind.startswith("np"):
        getattr(np, kind[3:])(stream, x=ARRAY)
    whole = stream.getvalue() or (gzip.compress(idx(ARRAY)) if file.suffix == ".gz" else idx(ARRAY))
    refused = 0
    with little_memory():
        for _ in range(300):
            content, place = bytearray(whole), damage.randrange(len(whole))
            match damage.randrange(4):
                case 0:
                    content[place] ^= 1 << damage.randrange(8)
                case 1:
                    content[place : place + 4] = damage.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
                case 2:
                    del content[place : place + damage.randrange(1, len(whole))]
                case 3:
                    content[place:place] = damage.randbytes(3)
            file.write_bytes(content)
            try:
                found = read(file)
            except DamagedFileError as error:
                refused += 1
                assert str(file) in str(error)
            else:  # an IDX file that is not packed holds no checksum
                assert kind == "idx" or np.array_equal(found, ARRAY)
    assert refused > 150
