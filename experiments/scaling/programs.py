"""What value_and_grad and a training step move, hold and compute on n devices: compiled from shapes, never run.

    python -m experiments.scaling.programs 64

compiles for 64 virtual devices of a CPU and prints a line of JSON for each program. Their number is fixed before JAX
computes anything, so each number of devices is a process of its own.
"""

import argparse
import json
import math
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

import jaxnet
from experiments.collectives import Collective, collectives, ideal
from jaxnet import parallel
from jaxnet.parallel import layouts, meshes
from jaxnet.parallel.layouts import LAYOUTS, places

EXAMPLES = 2048  # of a device: with n devices n times as many, which is weak scaling
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
COPIES = {"value_and_grad": 1, "train_step": 3}  # of the params among the arguments: Adam has two moments

PROGRAMS = [(layout, program, "float32") for layout in LAYOUTS for program in COPIES]
PROGRAMS.append(("fsdp", "value_and_grad", "bfloat16"))


def network(pairs: int = 3) -> jaxnet.MLP:
    """1024-4096-...-4096-1024, of layers in pairs: "tensor" splits the rows of one W and the columns of the next."""
    hidden = 2 * pairs - 1
    return jaxnet.MLP((1024, *[4096] * hidden, 1024), (*["gelu"] * hidden, "identity"))


def mesh_shape(layout: str, devices: int) -> tuple[int, int]:
    """Devices along data and along model: "tensor" and "fsdp+tensor" split the units over a node of 8."""
    if "tensor" not in layout:
        return devices, 1
    model = 2 if layout == "fsdp+tensor" and devices <= 8 else 8  # one node has room for both
    return devices // model, model


def compiled(net: jaxnet.MLP, layout: str, program: str, precision: str, mesh: Mesh, examples: int) -> dict[str, Any]:
    """A row of the table: the program's bytes and operations on each device, beside those of the formulas.

    ring, ideal: bytes that a device sends, in the program and by the formula (collectives.py). unexpected: the bytes of
    all that moves otherwise than by the formula: costs, norms and metrics. state: the bytes of the arguments but X and
    Y; outputs likewise. share: the bytes of 1/n of all W, and of its b, as often as the state has them. products: the
    floating-point operations of the products; flops: XLA's count, activations and optimizer among them. gathered: the
    dtypes of what the program gathers before XLA compiles it.
    """
    mesh, m = meshes.typed(mesh), examples * mesh.size
    where = layouts.shardings(net, mesh, layout)
    params = jax.eval_shape(lambda: jaxnet.init(net, jax.random.key(0)))
    X, Y = (
        jax.ShapeDtypeStruct((n, m), jnp.float32, sharding=meshes.columns(mesh)) for n in (net.sizes[0], net.sizes[-1])
    )
    if program == "value_and_grad":
        state = laid_out(params, where)
        run = jax.jit(jaxnet.value_and_grad, static_argnames=("net", "precision"))
        lowered = run.lower(net, state, X, Y, precision=precision)
    else:
        start = lambda params: jaxnet.TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(0))
        state = jax.eval_shape(start, params)
        state = laid_out(state, places(state, params, where, mesh))
        lowered = jax.jit(jaxnet.train_step(net, OPTIMIZER, precision=precision)).lower(state, X, Y)
    finished = lowered.compile()
    found = collectives(finished, mesh.size)
    formula = list(ideal(net, parallel.layout(net, mesh, layout), mesh, m, 4))
    memory, copies = finished.memory_analysis(), COPIES[program]
    weights = sum(layer.W.size for layer in params)
    return {
        "layout": layout,
        "program": program,
        "precision": precision,
        "devices": mesh.size,
        "model": mesh.shape["model"],
        "ring": sum(each.ring for each in found),
        "ideal": sum(each.ring for each in formula),
        "unexpected": unexpected(found, formula),
        "state": memory.argument_size_in_bytes - local_bytes((X, Y)),
        "outputs": memory.output_size_in_bytes,
        "share": {
            "W": copies * 4 * weights / mesh.size,
            "b": copies * local_bytes(laid_out([layer.b for layer in params], [layer.b for layer in where])),
        },
        "flops": finished.cost_analysis()["flops"],
        "products": (6 * weights - 2 * params[0].W.size) * examples,  # the first layer has no dA
        "gathered": sorted(set(gathered(lowered))),
    }


def laid_out(tree: Any, where: Any) -> Any:
    """The shapes, each with where its array belongs."""
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree, where)


def gathered(lowered: Any) -> list[str]:
    """The dtype of each array that a program gathers, before XLA compiles it."""
    return re.findall(r'"stablehlo.all_gather".*-> tensor<[\dx]*x(\w+)>', lowered.as_text())


def local_bytes(tree: Any) -> int:
    """The bytes of a device's part."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def unexpected(found: list[Collective], formula: list[Collective]) -> int:
    """The bytes by which the two differ, by kind and size of the group: XLA may join several of a kind."""
    difference = Counter()
    for sign, moved in ((1, found), (-1, formula)):
        for kind, size, group in moved:
            difference[kind, group] += sign * size * (group > 1)
    return sum(map(abs, difference.values()))


def of_kinds(kinds: Sequence[str]) -> list[tuple[str, str, str]]:
    """The programs of these kinds: layout, kind, and precision of the products."""
    return [program for program in PROGRAMS if program[1] in kinds]


def compiled_for(devices: int, pairs: int, kinds: Sequence[str] = tuple(COPIES)) -> Iterator[dict[str, Any]]:
    """The rows of so many devices, as the process that compiles them prints one after the other."""
    command = [sys.executable, "-m", "experiments.scaling.programs", str(devices), "--pairs", str(pairs)]
    command += ["--programs", *kinds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield from map(json.loads, process.stdout or ())
        except BaseException:  # nobody reads on
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"compiling for {devices} devices ended with exit code {process.returncode}; see above")


def main() -> None:
    """Read the number of devices and print the rows; end when nobody reads on."""
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("devices", type=int)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--programs", nargs="+", choices=COPIES, default=tuple(COPIES))
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    for layout, program, precision in of_kinds(arguments.programs):
        mesh = parallel.mesh(*mesh_shape(layout, arguments.devices))
        row = compiled(network(arguments.pairs), layout, program, precision, mesh, EXAMPLES)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
