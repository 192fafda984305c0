"""A finished net on disk: one safetensors file, from which any program predicts without the code that trained it.

It holds the arrays layers/0/W, layers/0/b, layers/1/W, ... and, as the one entry "jaxnet" of its metadata, a JSON text:
the version of this format, the fields of the MLP, the dtype, the SHA-256 digest of each array, and that of all this.

Anybody may have made or damaged a file, and nothing in it is run or imported. The length of its header is limited, what
the header claims is compared with the size of the file before an array is allocated, names and shapes have to be the
network's, and the digests tell every flipped bit. Whatever is wrong with a file is a DamagedFileError that names it.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax.core import Tracer

from jaxnet import atomic_files, checks, digests
from jaxnet._arguments import choice
from jaxnet.activations import Activation
from jaxnet.array_files import DamagedFileError
from jaxnet.atomic_files import NotSavedError
from jaxnet.mlp import MLP, Layer, Params, described
from jaxnet.values import require_whole

VERSION = 1
METADATA = "jaxnet"  # the entry of the metadata; its JSON text names a version, whatever the version
DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}  # as safetensors names them
LENGTH_BYTES = 8  # at the start of a safetensors file: how long its header is
MOST_HEADER = 2**24  # bytes, enough for 40,000 layers
SAVE_REMEDY = "give the path of a new or writable file, in a directory that exists, can be written and has room"
LOAD_REMEDY = "take another copy of it, or save the net again"


def save(path: str | os.PathLike, net: MLP, params: Params) -> None:
    """Save a network and its params, bit for bit and in their dtype, as one file, which `load` reads.

    It is written beside its place and then renamed: a full disk or a signal leaves an earlier file as it was. A
    symbolic link is replaced, not followed. Arrays are gathered from all devices of this process.

    Raises:
        OSError: the file cannot be saved there.
        ValueError: params do not have the shapes of net.sizes, or are of a dtype other than float16, bfloat16, float32
            and float64; they are NumPy arrays with NaN or an infinity, or of float64 while 64-bit is off in JAX; or
            there are too many layers.
        TypeError: path is not a path, net is not an MLP, or params are traced or not arrays of one floating dtype.

    >>> net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    >>> jaxnet.save("net.safetensors", net, jaxnet.init(net, jax.random.key(0)))
    """
    file = _file(path)
    _check_place(file)
    arrays = _host_arrays(net, params)
    if type(net) is not MLP:
        raise TypeError(f"net is {net!r}; expected an MLP itself, for what another class adds would be lost")
    record = {
        "version": VERSION,
        "net": described(net),
        "dtype": str(arrays[_name(0, "W")].dtype),
        "arrays": {name: digests.of_array(array) for name, array in arrays.items()},
    }
    text = json.dumps(record | {"sha256": digests.of_record(record)})
    content = safetensors.numpy.save(arrays, {METADATA: text})
    length = _header_length(content)
    if length > MOST_HEADER:
        raise ValueError(
            f"net has {len(params)} layers and needs a header of {length:,} bytes; expected at most {MOST_HEADER:,}:"
            " save a net of fewer layers"
        )
    atomic_files.save({file: content}, _part_of, SAVE_REMEDY)


def load(path: str | os.PathLike, activations: Mapping[str, Activation] | None = None) -> tuple[MLP, Params]:
    """Return the network and the params that `save` wrote, on JAX's default device.

    Args:
        path: the file.
        activations: of a network with activations of its own, which a file without code has by name alone: each name,
            that of its function, with the Activation, such as {"mish": mish}.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is damaged, cut short, not one that `save` wrote, or of a newer jaxnet (DamagedFileError);
            or its params are of float64 while 64-bit is off in JAX; or activations lack one that the network has.
        TypeError: path is not a path, or activations do not map names to Activations.

    >>> net = jaxnet.MLP((2, 1), ("sigmoid",))
    >>> jaxnet.save("logistic.safetensors", net, jaxnet.init(net, jax.random.key(0)))
    >>> jaxnet.load("logistic.safetensors")
    (MLP((2, 1), ('sigmoid',)), (Layer(W=float32[1,2], b=float32[1,1]),))
    """
    file = _file(path)
    own = _own_activations(activations)
    with _reading(file):
        _check_header_length(file)
        # pread: of a file that is cut short meanwhile, reading mapped memory would kill the process.
        with safetensors.safe_open(file, framework="numpy", backend="pread") as opened:
            stored: Any = opened  # the library's stub leaves out its type
            record = _record(file, stored.metadata())
            net = _network(file, record["net"], own)
            arrays = _stored_arrays(file, stored, net, record)
    layers = range(len(net.sizes) - 1)
    return net, tuple(Layer(*(arrays[_name(l, field)] for field in Layer._fields)) for l in layers)


def _file(path: Any) -> Path:
    """The path, if it is one."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path is {path!r}; expected the path of a file, such as 'net.safetensors'")
    if "\0" in os.fspath(path):
        raise ValueError(f"path is {path!r}; expected the path of a file: without null characters")
    return Path(path)


def _check_place(file: Path) -> None:
    """Refuse a place where renaming would fail, or take away what is not ours, before any work."""
    if os.path.isdir(file):
        reason = "it is a directory"
    elif os.path.exists(file) and not os.path.isfile(file):
        reason = "it is a device or a pipe"
    elif os.path.exists(file) and not os.access(file, os.W_OK):
        reason = "it is read-only"
    else:
        return
    raise NotSavedError(f"{file} cannot be saved ({reason}); {SAVE_REMEDY}")


def _part_of(file: Path) -> Path:
    """Where a file is written before it takes its name; programs that save the same one at once do not meet there."""
    return file.with_name(f".jaxnet-{secrets.token_hex(8)}.part")


def _name(l: int, field: str) -> str:
    return f"layers/{l}/{field}"


def _host_arrays(net: MLP, params: Any) -> dict[str, np.ndarray]:
    """The params by name, in the host's memory, row by row."""
    arrays = {}
    for l, (layer, given) in enumerate(zip(checks.params(net, params), params, strict=True)):
        for field, leaf, leaf_given in zip(Layer._fields, layer, given, strict=True):
            place = f"params[{l}].{field}"
            checks.float_dtype(place, np.dtype(leaf_given.dtype).newbyteorder("="))  # not yet rounded by JAX
            choice(f"the dtype of {place}", str(leaf.dtype), DTYPES)
            if isinstance(leaf, Tracer):
                raise TypeError(f"{place} is traced, and has no values to save yet; save outside jit, grad and vmap")
            require_whole(place, leaf)
            arrays[_name(l, field)] = np.ascontiguousarray(jax.device_get(leaf))
    return arrays


def _header_length(start: bytes) -> int:
    return int.from_bytes(start[:LENGTH_BYTES], "little")


def _check_header_length(file: Path) -> None:
    """Refuse a header longer than any that `save` writes, before it is read."""
    if os.path.exists(file) and not os.path.isfile(file):  # to open a pipe could wait for ever
        raise OSError("it is not a file")
    with file.open("rb") as stream:
        length = _header_length(stream.read(LENGTH_BYTES))
    if length > MOST_HEADER:
        raise DamagedFileError(
            f"{file} says that its header has {length:,} bytes; expected at most {MOST_HEADER:,}: it is damaged, or not"
            " a file that jaxnet.save wrote"
        )


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file that cannot be read, or is not what safetensors can read."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{file} cannot be read ({reason}); expected a file that jaxnet.save wrote") from error
    except safetensors.SafetensorError as error:
        raise DamagedFileError(
            f"{file} is damaged, cut short, or not a safetensors file ({error}); {LOAD_REMEDY}"
        ) from error


def _record(file: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    """What the metadata tell of the net, with the right digest and types."""
    if METADATA not in (metadata := metadata or {}):
        raise DamagedFileError(
            f"{file} is a safetensors file without jaxnet's metadata; expected a file that jaxnet.save wrote (others"
            " are read by safetensors.numpy.load_file)"
        )
    damaged = DamagedFileError(f"{file} is damaged, in its metadata; {LOAD_REMEDY}")
    try:
        record = json.loads(metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise damaged from error
    if not isinstance(record, dict) or not isinstance(record.get("version"), int):
        raise damaged
    if record["version"] != VERSION:
        raise DamagedFileError(
            f"{file} is of version {record['version']} of the format; this jaxnet reads version {VERSION}: update"
            " jaxnet, or save the net again"
        )
    digest = record.pop("sha256", None)
    if (
        digest != digests.of_record(record)
        or {name: type(entry) for name, entry in record.items()}
        != {"version": int, "net": dict, "dtype": str, "arrays": dict}
        or record["dtype"] not in DTYPES
    ):
        raise damaged
    return record


def _own_activations(activations: Any) -> Mapping[str, Activation]:
    """The activations by name, if they are."""
    activations = {} if activations is None else activations
    if not isinstance(activations, Mapping) or not all(isinstance(g, Activation) for g in activations.values()):
        raise TypeError(f"activations is {activations!r}; expected Activations by name, such as {{'mish': mish}}")
    return activations


def _network(file: Path, fields: dict[str, Any], own: Mapping[str, Activation]) -> MLP:
    """The network with these fields, and with activations of one's own for the names of such."""
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(MLP)})
    if unknown:
        raise DamagedFileError(f"{file} holds a net with {', '.join(unknown)}, unknown to this jaxnet; update jaxnet")
    names = fields.get("activations")
    needed = [g["own"] for g in names if isinstance(g, dict) and set(g) == {"own"}] if isinstance(names, list) else []
    missing = [name for name in needed if name not in own]
    if missing:
        raise ValueError(
            f"{file} holds a net with an activation of its own, {missing[0]!r}, and no code is in the file; give"
            f" load(path, activations={{{missing[0]!r}: Activation(g, derivative)}})"
        )
    if needed:
        fields = fields | {"activations": [own[g["own"]] if isinstance(g, dict) else g for g in fields["activations"]]}
    try:
        return MLP(**{name: _frozen(value) for name, value in fields.items()})
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{file} holds a net that MLP refuses ({error}); {LOAD_REMEDY}") from error


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were: an MLP is hashable."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _stored_arrays(file: Path, stored: Any, net: MLP, record: dict[str, Any]) -> dict[str, jax.Array]:
    """The arrays of the network by name; all names, shapes and dtypes are checked before one is read."""
    shapes = {
        _name(l, field): shape
        for l, (n_prev, n) in enumerate(itertools.pairwise(net.sizes))
        for field, shape in zip(Layer._fields, ((n, n_prev), (n, 1)), strict=True)
    }
    names = set(stored.keys())
    for what, wrong in (
        ("lacks arrays of its net", shapes.keys() - names),
        ("has other arrays", names - shapes.keys()),
    ):
        if wrong:
            first = ", ".join(sorted(wrong)[:3])
            raise DamagedFileError(f"{file} {what} ({len(wrong)}, such as {first}); {LOAD_REMEDY}")
    for name, shape in shapes.items():
        found, expected = stored.get_slice(name), f"{DTYPES[record['dtype']]} {shape}"
        if (got := f"{found.get_dtype()} {tuple(found.get_shape())}") != expected:
            raise DamagedFileError(f"{file} has {name} of {got}; expected {expected}; {LOAD_REMEDY}")
    checks.float_dtype(f"the dtype in {file}", record["dtype"])
    arrays = {}
    for name in shapes:
        array = stored.get_tensor(name)
        if digests.of_array(array) != record["arrays"].get(name):
            raise DamagedFileError(f"{file} is damaged, in the values of {name}; {LOAD_REMEDY}")
        arrays[name] = jnp.asarray(array)
    return arrays
