"""What the bytes mean on H100s: a calculation from public figures. Nothing of it was run on a GPU.

A step takes the time of its products at the peak of the tensor cores, and the time of its bytes, float32 as compiled,
at the bandwidth of the links they cross. Two bounds: nothing is sent while a GPU computes, or all that can be is. What
moves along "data" can be sent behind the backward pass, which makes the gradients, and under "fsdp" behind both passes;
sums over split units stand between a product and the next, and hide behind nothing. Latency, congestion, slow machines
and the time of the optimizer are left out: real steps are slower, and the more so the more GPUs.

A ring over whole nodes has a network card of each GPU for an eighth of the bytes; where "model" fills the node, the 8
rings along "data" share them. A GPU sends what it passes on at NVLink's speed at most.

Sources: NVIDIA, H100 SXM data sheet (peak, NVLink), DGX H100 (a 400 Gb/s card for each GPU); the same figures and the
bound C/W stand in "How to Scale Your Model", jax-ml.github.io/scaling-book/gpus. Local updates: Stich, arXiv 1805.09767
(local SGD); Douillard et al., arXiv 2311.08105 (DiLoCo, 500 steps apart).
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

import jaxnet
from experiments.collectives import ideal_by_axis
from experiments.scaling.programs import mesh_shape
from jaxnet import parallel
from jaxnet.parallel.layouts import LAYOUTS

NODE = 8  # GPUs
PEAK = 989e12  # floating-point operations a second, of bfloat16 products without sparsity
NVLINK = 450e9  # bytes a second that a GPU sends within its node
CARD = 50e9  # bytes a second that a GPU sends to other nodes: 400 Gb/s InfiniBand
ETHERNET, INTERNET = 12.5e9, 0.125e9  # bytes a second that a GPU sends to other sites: 100 Gb/s, 1 Gb/s
LOCAL_STEPS = 500  # between two synchronisations of DiLoCo
NARROWER = 8  # float32 against 4 bits

GPUS = (64, 128, 256, 512, 1024, 2048)
EXAMPLES = 8192  # of a GPU
PUBLISHED = {  # seconds of a step of Llama 2 70B in MaxText, weak scaling: NVIDIA DGX Cloud's recipe, 2024-12
    64: 6.999,
    2048: 7.066,
}
PUBLISHED_EFFICIENCY = PUBLISHED[64] / PUBLISHED[2048]


class Step(NamedTuple):
    """Seconds of a step: of its products, of what moves along each axis of the mesh, and in all by the two bounds."""

    products: float
    data: float
    model: float
    one_after_the_other: float
    at_once: float


def step(net: jaxnet.MLP, layout: str, gpus: int, examples: int = EXAMPLES) -> Step:
    """The calculated step of a layout with so many examples a GPU."""
    split = mesh_shape(layout, gpus)
    moved = dict.fromkeys(("data", "model"), 0.0)
    for axis, collective in ideal_by_axis(net, specs(net, layout, *split), sizes(*split), examples * gpus, 4):
        moved[axis] += collective.ring
    data, model = moved["data"] / bandwidth(*split), moved["model"] / NVLINK
    forward, backward = (examples * each / PEAK for each in operations(net))
    before, behind = (0, forward + backward) if "fsdp" in layout else (forward, backward)
    return Step(
        forward + backward, data, model,
        one_after_the_other=forward + backward + data + model,
        at_once=before + max(behind, data) + model,
    )  # fmt: skip


def sizes(data: int, model: int) -> Any:
    """Of a mesh, what the formula of the bytes asks for."""
    return SimpleNamespace(shape={"data": data, "model": model})


def specs(net: jaxnet.MLP, layout: str, data: int, model: int) -> Any:
    """How the layout splits params over so many devices; one that is here stands for each of them."""
    return parallel.layout(net, Mesh(np.full((data, model), jax.devices()[0]), ("data", "model")), layout)


def bandwidth(data: int, model: int) -> float:
    """Bytes a second that a GPU sends along "data"."""
    return NVLINK if data * model <= NODE else min(NVLINK, NODE * CARD / model)


def operations(net: jaxnet.MLP) -> tuple[int, int]:
    """Floating-point operations of an example's products in the two passes; no dX is made."""
    weights = [n * n_prev for n_prev, n in zip(net.sizes[:-1], net.sizes[1:], strict=True)]
    return 2 * sum(weights), 4 * sum(weights) - 2 * weights[0]


def compute_bound_from(net: jaxnet.MLP, link: float, apart: int = 1, narrower: int = 1) -> float:
    """Examples a GPU and step from which on the all-reduce of layout "data" takes less than the backward pass.

    Over links of so many bytes a second, where devices synchronise `apart` steps apart what is so many times narrower.
    """
    moved = ideal_by_axis(net, specs(net, "data", GPUS[-1], 1), sizes(GPUS[-1], 1), GPUS[-1], 4)
    seconds = sum(collective.ring for _, collective in moved) / link / apart / narrower
    return seconds * PEAK / operations(net)[1]


def calculated(net: jaxnet.MLP) -> dict[str, Any]:
    """Weak scaling from 64 GPUs, the steps at the most GPUs, and the examples from which on computing takes longest."""
    steps = {layout: {gpus: step(net, layout, gpus) for gpus in GPUS} for layout in LAYOUTS}
    bounds = ("one_after_the_other", "at_once")
    return {
        "weak_scaling": {
            layout: {
                bound: {gpus: getattr(of[GPUS[0]], bound) / getattr(of[gpus], bound) for gpus in GPUS}
                for bound in bounds
            }
            for layout, of in steps.items()
        },
        "share_of_products": {
            layout: {bound: of[GPUS[-1]].products / getattr(of[GPUS[-1]], bound) for bound in bounds}
            for layout, of in steps.items()
        },
        "compute_bound_from": {
            "NVLink, 450 GB/s": compute_bound_from(net, NVLINK),
            "InfiniBand, 8 x 50 GB/s a node": compute_bound_from(net, NODE * CARD),
            "100 Gb/s between sites": compute_bound_from(net, ETHERNET),
            "1 Gb/s between sites": compute_bound_from(net, INTERNET),
            "1 Gb/s, every 500 steps": compute_bound_from(net, INTERNET, LOCAL_STEPS),
            "1 Gb/s, every 500 steps, 4 bits": compute_bound_from(net, INTERNET, LOCAL_STEPS, NARROWER),
        },
    }
