"""Arrays in .npz and IDX files that anybody may have made: a header is checked before a value is unpacked.

A file can say anything: 2^40 entries in a header of 80 bytes, or a gigabyte of zeros in a megabyte of zip. So `npz` and
`idx` read headers only, compare them with the size of the file or of the archive's entry, and refuse what holds more
than MOST_BYTES; `StoredArray.read` then unpacks as many bytes as the header says, and no further. Dtypes come from a
closed table, nothing is unpickled, and whatever is wrong with a file is a DamagedFileError that names it.
"""

import contextlib
import gzip
import hashlib
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

MOST_BYTES = 2**29  # of one array: ten times MNIST's training pictures as bytes, and room for them as float64
MOST_AXES = 8
DEFLATE_RATIO = 1032  # deflate packs no more bytes into one
NPY = re.compile(  # a header of version 1.0 as NumPy writes it; other writers leave out spaces and commas
    rb"\{\s*'descr':\s*'([^']{1,20})',\s*'fortran_order':\s*(True|False),\s*'shape':\s*\(([\d, ]{0,200})\),?\s*\}\s*"
)
DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
FOREIGN_ERRORS = (  # of a damaged file: NotImplementedError is zipfile's, of a way of packing that it does not know
    OSError, EOFError, ValueError, NotImplementedError, zlib.error, zipfile.BadZipFile
)  # fmt: skip


class DamagedFileError(ValueError):
    """A file that is damaged, cut short, too large, or not what it should be."""


class StoredArray(NamedTuple):
    """An array in an open file: its header is read, its values are not."""

    name: str  # the file's, and within an .npz the array's
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    stream: IO[bytes]  # where the values begin

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Return the values, read-only.

        Raises:
            DamagedFileError: they are damaged, or not as many as the header says.
        """
        with _foreign_errors_named(f"{self.name} cannot be unpacked"):
            content = self.stream.read(self.size)
            surplus = self.stream.read(1)  # which checks the checksum as well
        if len(content) < self.size or surplus:
            found = "more values" if surplus else f"{len(content) // self.dtype.itemsize} values"
            raise DamagedFileError(f"{self.name} holds {found} but says {self.shape}; it is cut short or damaged")
        return np.frombuffer(content, self.dtype).reshape(self.shape, order="F" if self.fortran_order else "C")


def sha256(file: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal.

    Raises:
        DamagedFileError: it cannot be read.
    """
    with _foreign_errors_named(f"{file} cannot be read"), file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def npz(file: Path, names: Sequence[str], opened: contextlib.ExitStack) -> list[StoredArray]:
    """Return the arrays of these names in an .npz file, which stays open as long as `opened`.

    Raises:
        DamagedFileError: the file is not a zip archive with these arrays of real numbers, or one is too large.
    """
    with _foreign_errors_named(f"{file} is not an .npz file with {', '.join(names)}"):
        archive = opened.enter_context(zipfile.ZipFile(file))
        entries = [archive.getinfo(f"{name}.npy") for name in names]
        return [_npy(f"{file}: {name}", archive, entry, opened) for name, entry in zip(names, entries, strict=True)]


def _npy(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, opened: contextlib.ExitStack) -> StoredArray:
    """The array in an entry of an archive: magic, version, the header's length in two bytes, the header, the values."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise DamagedFileError(f"{name} is encrypted or packed in a way that np.savez_compressed does not use")
    with _foreign_errors_named(f"{name} cannot be unpacked"):
        stream = opened.enter_context(archive.open(entry))
        start = stream.read(10)
        header = stream.read(int.from_bytes(start[8:], "little"))
    match = NPY.fullmatch(header)
    if start[:8] != b"\x93NUMPY\x01\x00" or not match:
        begins = (start + header)[:80].decode("latin-1").rstrip()
        raise DamagedFileError(f"{name} is not an array of numbers as np.savez writes it: it begins with {begins!r}")
    descr, order, lengths = (group.decode("latin-1") for group in match.groups())
    if not DTYPE.fullmatch(descr):
        raise DamagedFileError(f"{name} has dtype {descr!r}; expected real numbers")
    shape = tuple(map(int, re.findall(r"\d+", lengths)))
    stored = StoredArray(name, shape, np.dtype(descr), order == "True", stream)
    held = entry.file_size - len(start) - len(header)
    _check_size(stored, held, held)
    return stored


def idx(file: Path, opened: contextlib.ExitStack) -> StoredArray:
    """Return the array in an IDX file of bytes, packed if its name ends with .gz; it stays open as long as `opened`.

    The format: 0, 0, 8, the number of axes, their lengths as big-endian int32, the values.

    Raises:
        DamagedFileError: the file is not such a file, cannot be unpacked, or is too large.
    """
    packed = file.suffix == ".gz"
    with _foreign_errors_named(f"{file} cannot be unpacked"):
        opener: Any = gzip.open if packed else open  # of two types that have only their methods in common
        stream = opened.enter_context(opener(file, "rb"))
        start = stream.read(4)
        lengths = stream.read(4 * start[3]) if len(start) == 4 else b""
        size = file.stat().st_size
    if len(start) < 4 or start[:3] != b"\0\0\x08":
        raise DamagedFileError(f"{file} is not an IDX file of bytes: it begins with {start.hex() or 'nothing'}")
    if len(lengths) < 4 * start[3]:
        raise DamagedFileError(f"{file} says it has {start[3]} axes but ends before their lengths: it is cut short")
    shape = tuple(np.frombuffer(lengths, ">i4").tolist())
    stored = StoredArray(str(file), shape, np.dtype(np.uint8), False, stream)
    held = size - len(start) - len(lengths)
    _check_size(stored, *((0, DEFLATE_RATIO * size) if packed else (held, held)))
    return stored


def _check_size(stored: StoredArray, least: int, most: int) -> None:
    """Refuse an array whose header says less or more bytes than the file can hold, or more than MOST_BYTES."""
    name, shape = stored.name, stored.shape
    if len(shape) > MOST_AXES:
        raise DamagedFileError(f"{name} says it has {len(shape)} axes; expected at most {MOST_AXES}: it is damaged")
    if any(length < 0 for length in shape):
        raise DamagedFileError(f"{name} says its shape is {shape}; expected no negative length: it is damaged")
    if not least <= stored.size <= most:
        found = f"{'at most ' if least < most else ''}{most / stored.dtype.itemsize:.10g}"
        raise DamagedFileError(f"{name} holds {found} values but says {shape}; it is cut short or damaged")
    if stored.size > MOST_BYTES:
        raise DamagedFileError(f"{name} says {shape}, {stored.size:,} bytes; expected at most {MOST_BYTES:,}: split it")


@contextlib.contextmanager
def _foreign_errors_named(what: str) -> Iterator[None]:
    """Raise what the standard library's readers raise for a damaged file as an error that begins with `what`."""
    try:
        yield
    except DamagedFileError:
        raise
    except (KeyError, *FOREIGN_ERRORS) as error:  # KeyError: an archive has no entry of that name
        text = error.args[0] if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DamagedFileError(f"{what}: {text}") from error
