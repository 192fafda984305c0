"""A finished net comes back from its file bit for bit, or not at all; whatever happens in a save, none is lost."""

import copy
import dataclasses
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax.experimental.layout import Format, Layout
from jax.sharding import NamedSharding, PartitionSpec

import jaxnet
from jaxnet import Layer, load, parallel, save
from jaxnet.array_files import DamagedFileError
from jaxnet.atomic_files import NotSavedError
from tests.cases import HIDDEN, OUTPUTS
from tests.experiments.claims import full_disk

MODULE = importlib.import_module("jaxnet.net_files")
ROOT = Path(__file__).parent.parent
NET = jaxnet.MLP((2, 3, 1), ("tanh", "sigmoid"))
DTYPES = ("float16", "bfloat16", "float32", "float64")


def bits_of(net, seed, dtype="float32", xp=jnp):
    """Params of any bits at all: NaN, infinities, negative zeros and denormals among them."""
    rng, dtype = np.random.default_rng(seed), jnp.dtype(dtype)
    draw = lambda *shape: xp.asarray(
        np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    )
    return tuple(Layer(draw(n, n_prev), draw(n, 1)) for n_prev, n in zip(net.sizes, net.sizes[1:], strict=False))


def numbers(net, xp=np, dtype=np.float32):
    """Params that are finite and differ from each other."""
    return tuple(
        Layer(xp.asarray(np.arange(n * n_prev).reshape(n, n_prev) + l, dtype), xp.asarray(-np.ones((n, 1)), dtype))
        for l, (n_prev, n) in enumerate(zip(net.sizes, net.sizes[1:], strict=False))
    )


def same(found, expected):
    """Whether two nets and their params are one, bit for bit."""
    kinds = lambda params: [(type(layer), leaf.dtype, leaf.shape) for layer in params for leaf in layer]
    content = lambda params: [np.ascontiguousarray(leaf).tobytes() for layer in params for leaf in layer]
    return (
        found[0] == expected[0]
        and hash(found[0]) == hash(expected[0])
        and kinds(found[1]) == kinds(expected[1])
        and content(found[1]) == content(expected[1])
    )


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def file(tmp_path):
    """A saved net, alone in its directory."""
    (tmp_path / "nets").mkdir()
    save(tmp_path / "nets" / "net.safetensors", NET, numbers(NET))
    return tmp_path / "nets" / "net.safetensors"


def parts(file):
    """The record and the arrays of a file."""
    with safetensors.safe_open(file, "numpy") as stored:
        return json.loads(stored.metadata()["jaxnet"]), dict(stored.get_tensors())


def forge(file, record, arrays):
    """Write a file as somebody else might, with digests that are right."""
    record = {name: entry for name, entry in record.items() if name != "sha256"}
    if isinstance(record.get("arrays"), dict):
        record["arrays"] = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    file.write_bytes(safetensors.numpy.save(arrays, {"jaxnet": json.dumps(record | {"sha256": digest})}))


@st.composite
def networks(draw):
    """The arguments of a small MLP of any depth, activations and loss."""
    output, loss = draw(st.sampled_from(OUTPUTS))
    hidden = draw(st.lists(st.sampled_from(HIDDEN), max_size=3))
    inner = draw(st.lists(st.integers(1, 5), min_size=len(hidden) + 1, max_size=len(hidden) + 1))
    return (*inner, draw(st.integers(2 if output == "softmax" else 1, 4))), (*hidden, output), loss


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=networks(), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 2**32))
def test_whatever_is_saved_is_loaded_bit_for_bit(arguments, dtype, seed, tmp_path):
    net, file = jaxnet.MLP(*arguments), tmp_path / "net"
    with jax.enable_x64(dtype == "float64"):
        params = bits_of(net, seed, dtype)
        save(file, net, params)
        found = load(str(file))
        assert same(found, (net, params))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found[1]))
        content = file.read_bytes()
        save(file, *found)
    assert file.read_bytes() == content


def test_the_file_is_plain_safetensors(file):
    """Which other libraries read, and whose entries are named as documented."""
    found = safetensors.numpy.load_file(file)
    assert list(found) == ["layers/0/W", "layers/0/b", "layers/1/W", "layers/1/b"]
    np.testing.assert_array_equal(found["layers/1/W"], numbers(NET)[1].W)
    fields = {"sizes": [2, 3, 1], "activations": ["tanh", "sigmoid"], "loss": "cross_entropy", "l2": 0.0}
    fields["dropout"] = [0.0, 0.0]
    assert parts(file)[0]["net"] == fields


def test_a_net_predicts_in_another_process(tmp_path):
    params, X = numbers(NET, jnp), np.float32([[0.1, -0.2], [0.3, 0.1]])
    save(tmp_path / "net.safetensors", NET, params)
    program = f"""import jaxnet
net, params = jaxnet.load("net.safetensors")
print(jaxnet.predict(net, params, jaxnet.datasets.np.float32({X.tolist()})).tolist())"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == np.asarray(jaxnet.predict(NET, params, X)).tolist()


def test_arrays_of_numpy_are_taken_in_any_order(tmp_path):
    expected = (NET, numbers(NET, jnp))
    for convert in (lambda a: a, lambda a: a.astype(">f4"), np.asfortranarray, lambda a: np.repeat(a, 2, 0)[::2]):
        save(tmp_path / "net", NET, jax.tree.map(convert, numbers(NET)))
        assert same(load(tmp_path / "net"), expected)


def test_an_array_that_lies_column_by_column_in_memory_is_saved_row_by_row(tmp_path):
    params = numbers(NET, jnp)
    columns = jax.tree.map(lambda leaf: jax.device_put(leaf, Format(Layout((1, 0)), leaf.sharding)), params)
    assert not jax.device_get(columns[0].W).flags.c_contiguous
    save(tmp_path / "net", NET, columns)
    assert same(load(tmp_path / "net"), (NET, params))


def test_arrays_on_other_devices_and_laid_out_over_several_are_gathered(tmp_path):
    net = jaxnet.MLP((8, 16, 8), ("relu", "identity"))
    params, mesh = numbers(net, jnp), parallel.mesh()
    over_all = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    for placed in (jax.device_put(params, over_all), jax.device_put(params, jax.devices()[5])):
        assert placed[0].W.sharding != params[0].W.sharding
        save(tmp_path / "net", net, placed)
        found = load(tmp_path / "net")
        assert same(found, (net, params))
        assert found[1][0].W.devices() == params[0].W.devices()


def test_a_field_that_mlp_grows_later_is_saved(tmp_path, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Grown(jaxnet.MLP):
        slopes: tuple = ((0.1, 1 / 3), ())

    net = Grown((2, 3, 1), ("tanh", "sigmoid"), slopes=((0.2, 1e-300), ("x",)))
    with pytest.raises(TypeError, match=r"net is .*Grown\(.*; expected an MLP itself"):
        save(tmp_path / "net", net, numbers(NET))
    monkeypatch.setattr(MODULE, "MLP", Grown)
    save(tmp_path / "net", net, numbers(NET))
    assert same(load(tmp_path / "net"), (net, numbers(NET)))
    monkeypatch.undo()
    with pytest.raises(DamagedFileError, match="holds a net with slopes, unknown to this jaxnet; update jaxnet"):
        load(tmp_path / "net")
    save(tmp_path / "net", NET, numbers(NET))
    monkeypatch.setattr(MODULE, "MLP", Grown)
    assert load(tmp_path / "net")[0] == Grown((2, 3, 1), ("tanh", "sigmoid"))  # an earlier file: the field's default


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(path=3), TypeError, "path is 3; expected the path of a file"),
        (dict(path=b"net"), TypeError, "path is b'net'; expected the path of a file"),
        (dict(path="a\0b"), ValueError, "expected the path of a file: without null characters"),
        (dict(net="MLP"), TypeError, "net is 'MLP'; expected an MLP"),
        (dict(params=list(numbers(NET))), ValueError, "params is a list; expected a tuple of 2 Layer"),
        (dict(params=numbers(NET)[:1]), ValueError, "params has 1 layer; expected a tuple of 2 Layer"),
        (dict(params=bits_of(NET, 0, xp=np)[::-1]), ValueError, r"params\[0\]\.W has shape|holds nan"),
        (dict(params=jax.tree.map(np.float64, numbers(NET))), ValueError, r"params\[0\]\.W is float64, but 64-bit is"),
        (dict(params=jax.tree.map(np.int32, numbers(NET))), TypeError, r"params\[0\]\.W is int32; expected a floating"),
        (dict(params=numbers(NET, jnp, jnp.float8_e4m3fn)), ValueError, r"dtype of params\[0\]\.W is 'float8_e4m3fn'"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_and_nothing_written(change, error, message, file):
    arguments = {"path": file, "net": NET, "params": numbers(NET)} | change
    earlier = file.read_bytes()
    with pytest.raises(error, match=message):
        save(**arguments)
    assert file.read_bytes() == earlier and names(file.parent) == [file.name]


def test_traced_params_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"params\[0\]\.W is traced, and has no values to save yet; save outside jit"):
        jax.make_jaxpr(lambda params: save(tmp_path / "net", NET, params))(numbers(NET, jnp))


def test_params_of_float64_are_never_rounded(tmp_path):
    with jax.enable_x64(True):
        save(tmp_path / "net", NET, bits_of(NET, 1, "float64"))
    with pytest.raises(ValueError, match=r"the dtype in .*/net is float64, but 64-bit is off in JAX, which would"):
        load(tmp_path / "net")


def test_a_net_of_too_many_layers_is_not_saved(file, monkeypatch):
    """For it would not be loaded."""
    length = MODULE._header_length(file.read_bytes())
    monkeypatch.setattr(MODULE, "MOST_HEADER", length)
    save(file, *load(file))
    monkeypatch.setattr(MODULE, "MOST_HEADER", length - 1)
    with pytest.raises(
        ValueError, match=f"net has 2 layers and needs a header of {length} bytes; expected at most {length - 1}"
    ):
        save(file, NET, numbers(NET))
    with pytest.raises(
        DamagedFileError, match=f"says that its header has {length} bytes; expected at most {length - 1}"
    ):
        load(file)


# What happens while a net is saved.


def other(net):
    """Params that are not `numbers`."""
    return jax.tree.map(lambda leaf: leaf + 1, numbers(net))


def test_a_full_disk_leaves_the_earlier_file(file):
    with full_disk(200), pytest.raises(NotSavedError) as caught:
        save(file, NET, other(NET))
    assert str(caught.value).startswith(f"{file} cannot be saved (File too large), the earlier one is as it was; give ")
    assert same(load(file), (NET, numbers(NET))) and names(file.parent) == [file.name]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupt_leaves_the_earlier_file(moment, file, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, moment, interrupted)
        save(file, NET, other(NET))
    assert same(load(file), (NET, numbers(NET))) and names(file.parent) == [file.name]


def test_a_kill_leaves_the_earlier_file(file):
    """Killed by -9 before the new file is on the disk, and before it is renamed; another save works."""
    program = """import os, sys, jaxnet
net, params = jaxnet.load(sys.argv[2])
setattr(os, sys.argv[1], lambda *arguments: os.kill(os.getpid(), 9))
jaxnet.save(sys.argv[2], net, tuple(jaxnet.Layer(W + 1, b + 1) for W, b in params))"""
    path = os.pathsep.join([str(ROOT), *sys.path])
    killed = [
        subprocess.Popen([sys.executable, "-c", program, moment, file], env=os.environ | {"PYTHONPATH": path})
        for moment in ("fsync", "replace")
    ]
    assert [process.wait() for process in killed] == [-signal.SIGKILL] * 2
    assert same(load(file), (NET, numbers(NET)))
    assert len(names(file.parent)) == 3  # what the killed wrote is beside it
    save(file, NET, other(NET))
    assert same(load(file), (NET, other(NET)))


def test_who_saves_or_loads_at_once_meets_whole_files(file):
    def save_often(params):
        for _ in range(20):
            save(file, NET, params)
            found = load(file)
            assert any(same(found, (NET, whole)) for whole in versions)

    versions = [jax.tree.map(lambda leaf, by=by: leaf + by, numbers(NET)) for by in np.arange(4, dtype=np.float32)]
    with ThreadPoolExecutor(len(versions)) as pool:
        list(pool.map(save_often, versions))
    assert names(file.parent) == [file.name]


def test_places_where_nothing_can_be_saved_are_named(tmp_path, file, monkeypatch):
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "directory")
    os.mkfifo(tmp_path / "pipe")
    everything = names(tmp_path)
    for path, reason in {
        tmp_path / "directory": "it is a directory",
        tmp_path / "link": "it is a directory",
        tmp_path / "pipe": "it is a device or a pipe",
        Path("/dev/null"): "it is a device or a pipe",
        tmp_path / "missing" / "net": f"there is no directory {tmp_path / 'missing'}",
        file / "net": "Not a directory",
        tmp_path / ("n" * 300): "File name too long",
    }.items():
        with pytest.raises(OSError, match=r"cannot be saved \(.*; give the path of a new or writable file") as caught:
            save(path, NET, numbers(NET))
        assert str(caught.value).startswith(f"{path} cannot be saved ({reason})")
    assert names(tmp_path) == everything and Path("/dev/null").is_char_device()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root may write all
    with pytest.raises(NotSavedError, match="it is read-only"):
        save(file, NET, other(NET))
    assert same(load(file), (NET, numbers(NET)))


def test_a_directory_that_is_read_only_is_named(file, monkeypatch):
    def refused(path, *arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # for root may write all
    with pytest.raises(NotSavedError, match=r"cannot be saved \(Permission denied\), the earlier one is as it was"):
        save(file, NET, numbers(NET))


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path, file):
    link, earlier = tmp_path / "link", file.read_bytes()
    link.symlink_to(file)
    assert same(load(link), (NET, numbers(NET)))
    save(link, NET, other(NET))
    assert not link.is_symlink() and file.read_bytes() == earlier
    assert same(load(link), (NET, other(NET)))


# What may be wrong with a file.


def test_every_flipped_bit_and_every_cut_is_refused(tmp_path):
    """Or harmless: never another net."""
    file, net = tmp_path / "net", jaxnet.MLP((3, 1), ("sigmoid",))
    save(file, net, numbers(net))
    whole, expected = file.read_bytes(), (net, numbers(net))

    def refused():
        try:
            found = load(file)
        except DamagedFileError as error:
            return str(error).startswith(str(file))
        assert same(found, expected)
        return False

    flips = []
    with file.open("r+b", buffering=0) as stream:  # in place: to write the file anew takes ten times as long
        for place, byte in enumerate(whole):
            for bit in range(8):
                os.pwrite(stream.fileno(), bytes([byte ^ 1 << bit]), place)
                flips.append(refused())
            os.pwrite(stream.fileno(), bytes([byte]), place)
        assert same(load(file), expected)
        cuts = [stream.truncate(length) == length and refused() for length in reversed(range(len(whole)))]
    assert len(flips) == 8 * len(whole) and sum(flips) > 0.99 * len(flips)
    assert all(cuts)


@pytest.mark.parametrize("kept", [slice(0, 100), slice(100, None), slice(0, -1)])
def test_a_file_of_which_a_part_is_deleted_is_refused(kept, file):
    file.write_bytes(file.read_bytes()[kept])
    with pytest.raises(DamagedFileError, match=f"{file} .*"):
        load(file)


def header(text, content=bytes(24), length=None):
    """A file with this header, which says that it is so long."""
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + content


ARRAY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, cut short, or not a safetensors file .*too small"),
        (b"\x89PNG\r\n\x1a\n" * 9, "says that its header has .* bytes; expected at most 16,777,216"),
        (header({"a": ARRAY}, length=2**60), "says that its header has 1,152,921,504,606,846,976 bytes"),
        (header({"a": ARRAY}, length=2**24), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"shape": [2**40]}}), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"shape": [2**40], "data_offsets": [0, 2**42]}}), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"shape": [2**63, 2**63]}}), "is damaged, cut short, or not"),
        (header({"a": ARRAY, "b": ARRAY}), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"data_offsets": [8, 32]}}, bytes(32)), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"data_offsets": [0, -24]}}), "is damaged, cut short, or not"),
        (header({"a": ARRAY | {"dtype": "O"}}), "is damaged, cut short, or not"),
        (header({"a": ARRAY}, bytes(25)), "is damaged, cut short, or not"),
        (header(b"[" * 100_000), "is damaged, cut short, or not"),
        (header({"a": ARRAY}), "is a safetensors file without jaxnet's metadata"),
        (header({"__metadata__": {"format": "pt"}, "a": ARRAY}), "is a safetensors file without jaxnet's metadata"),
        (header({"__metadata__": {"jaxnet": "[" * 100_000}, "a": ARRAY}), "is damaged, in its metadata"),
        (header({"__metadata__": {"jaxnet": "[]"}, "a": ARRAY}), "is damaged, in its metadata"),
        (header({"__metadata__": {"jaxnet": "{}"}, "a": ARRAY}), "is damaged, in its metadata"),
    ],
)  # fmt: skip
def test_what_is_not_a_saved_net_is_refused(content, message, tmp_path):
    file = tmp_path / "net"
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{file} {message}"):
        load(file)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record, arrays: record.update(version=2), "is of version 2 of the format; this jaxnet reads version 1"),
        (lambda record, arrays: record.update(version=True), "is damaged, in its metadata"),
        (lambda record, arrays: record.update(more=1), "is damaged, in its metadata"),
        (lambda record, arrays: record.update(dtype="O"), "is damaged, in its metadata"),
        (lambda record, arrays: record.update(net=[]), "is damaged, in its metadata"),
        (lambda record, arrays: record.pop("arrays"), "is damaged, in its metadata"),
        (lambda record, arrays: record["net"].pop("sizes"), "holds a net that MLP refuses .*sizes"),
        (lambda record, arrays: record["net"].update(sizes=[2, 3]), "holds a net that MLP refuses .activations has 2"),
        (lambda record, arrays: record["net"].update(sizes=[2, 2**40, 1]), r"holds a net that MLP refuses .sizes\[1\]"),
        (lambda record, arrays: record["net"].update(loss="os.system"), "holds a net that MLP refuses .loss is 'os"),
        (lambda record, arrays: record["net"].update(activations=["tanh", "eval"]), "holds a net that MLP refuses"),
        (lambda record, arrays: record["net"].update(norm=True), "holds a net with norm, unknown to this jaxnet"),
        (lambda record, arrays: record["net"].update(sizes=[2, 4, 1]), r"has layers/0/W of F32 \(3, 2\); exp"),
        (lambda record, arrays: record["net"].update(sizes=[2, 2**31 - 1, 1]), r"has layers/0/W of F32 \(3, 2\); ex"),
        (lambda record, arrays: record.update(dtype="bfloat16"), r"has layers/0/W of F32 \(3, 2\); expected BF16"),
        (lambda record, arrays: arrays.pop("layers/1/b"), r"lacks arrays of its net \(1, such as layers/1/b\); take"),
        (lambda record, arrays: arrays.update({"../x": arrays["layers/1/b"]}), r"has other arrays \(1, such as \.\./"),
        (lambda record, arrays: arrays.update({"layers/1/b": np.float16([[1]])}), r"has layers/1/b of F16 \(1, 1\)"),
        (lambda record, arrays: arrays.update({"layers/1/b": np.array(1, "f4")}), r"has layers/1/b of F32 \(\); ex"),
        (lambda record, arrays: arrays.update({"layers/1/b": np.int32([[1]])}), r"has layers/1/b of I32 \(1, 1\)"),
    ],
)  # fmt: skip
def test_a_file_that_somebody_made_is_refused_where_it_is_wrong(change, message, file):
    record, arrays = parts(file)
    forge(file, copy.deepcopy(record), arrays)
    assert same(load(file), (NET, numbers(NET)))  # as it is
    change(record, arrays)
    forge(file, record, arrays)
    with pytest.raises(DamagedFileError, match=f"{file} {message}"):
        load(file)


def test_values_that_are_not_those_of_the_digest_are_refused(file):
    record, arrays = parts(file)
    metadata = {"jaxnet": json.dumps(record)}
    exchanged = arrays | {"layers/0/b": arrays["layers/0/b"] + 1}
    for wrong, message in (
        ((exchanged, metadata), "is damaged, in the values of layers/0/b; take another copy of it"),
        ((arrays, {"jaxnet": json.dumps(record | {"sha256": 64 * "0"})}), "is damaged, in its metadata; take another"),
        ((arrays, {"jaxnet": json.dumps(record | {"arrays": {}})}), "is damaged, in its metadata"),
    ):
        file.write_bytes(safetensors.numpy.save(*wrong))
        with pytest.raises(DamagedFileError, match=f"{file} {message}"):
            load(file)


@pytest.mark.usefixtures("untyped")
def test_a_file_that_is_not_there_or_not_a_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, error in {tmp_path / "none": FileNotFoundError, tmp_path: OSError, tmp_path / "pipe": OSError}.items():
        with pytest.raises(error, match=f"{path} cannot be read .*; expected a file that jaxnet.save wrote"):
            load(path)
    with pytest.raises(TypeError, match=r"path is None; expected the path of a file, such as 'net\.safetensors'"):
        load(None)


# ---- an activation of one's own --------------------------------------------------------------------------------------
def cube(Z):
    return Z * Z * Z


def cube_derivative(Z, A):
    return 3 * Z * Z


CUBE = jaxnet.Activation(cube, cube_derivative)


def test_an_own_activation_is_in_the_file_by_name_and_comes_back_by_it(tmp_path):
    net, file = jaxnet.MLP((2, 3, 1), (CUBE, "sigmoid")), tmp_path / "net.safetensors"
    params = numbers(net)
    save(file, net, params)
    assert same(load(file, activations={"cube": CUBE, "another": CUBE}), (net, params))
    with pytest.raises(ValueError, match=r"net\.safetensors holds a net with .* own, 'cube', .*activations={'cube'"):
        load(file)
    with pytest.raises(TypeError, match=r"activations is .*; expected Activations by name|parameter 'activations'"):
        load(file, activations={"cube": cube})


def test_the_name_alone_takes_no_known_activation(tmp_path):
    """An own g that is called tanh is not the tanh of the table."""

    def tanh(Z):
        return 2 * jnp.tanh(Z)

    own = jaxnet.Activation(tanh, lambda Z, A: 2 * (1 - jnp.tanh(Z) ** 2))
    net, file = jaxnet.MLP((2, 3, 1), (own, "sigmoid")), tmp_path / "net.safetensors"
    save(file, net, numbers(net))
    with pytest.raises(ValueError, match="own, 'tanh'"):
        load(file)
    assert load(file, activations={"tanh": own})[0] == net
