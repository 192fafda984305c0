"""Layered parameters: the layers in any tree, and the place where an error starts.

What is a layer is read from the program (dataflow.py), whatever the leaves are called and however they are nested: W[l]
is a matrix that one product is made with, b[l] the leaf that is added to it. Layers are a chain if W[l] is multiplied
with something that depends on all the layers below it and on no other. Two towers side by side are no chain, nor are
weights that two layers share.

Backwards, dZ[l] enters dW[l] = dZ[l] A[l-1]ᵀ, db[l] = Σ dZ[l] and everything below. So one right leaf in layer l or
below it shows that dZ[l] is right, and what is wrong in layer l is wrong by itself: dW[l] in A[l-1] or the product,
db[l] in the sum. Where no leaf speaks for dZ[l] the error may start there; the values tell (starts.py).
"""

import numpy as np

from jaxnet.verify.dataflow import Flow, Product


def find_layers(flow: Flow, shapes: list[tuple[int, ...]]) -> list[Product] | None:
    """The layers in order from the input up, or None where the leaves are not a chain of dense layers."""
    products = list(dict.fromkeys(flow.products))  # a network that the loss runs twice is one network
    leaves = [i for product in products for i in product.leaves]
    if len(leaves) < 2 or len(set(leaves)) < len(leaves) or set(leaves) != flow.used or flow.unclear & flow.used:
        return None
    weights = {product.W for product in products}
    layers = sorted(products, key=lambda product: len(product.fed & weights))
    for number, layer in enumerate(layers):
        below = {other.W for other in layers[:number]}
        if layer.fed & weights != below or (number and _ends(layers[number - 1], shapes)[1] != _ends(layer, shapes)[0]):
            return None
    return layers


def start_of_error(layers: list[Product], wrong: set[int], right: set[int]) -> list[tuple[str, int, tuple[int, ...]]]:
    """Where errors start, from the top down: ("dZ" | "dW" | "db", layer from 1, the leaves that show it).

    Leaves that are neither wrong nor right (frozen, inconclusive) speak neither for nor against: a "dZ" that only one
    leaf shows may as well be that leaf's own error.
    """
    starts = []
    for number in range(len(layers), 0, -1):
        layer = layers[number - 1]
        bad = tuple(i for i in layer.leaves if i in wrong)
        if bad and not any(i in right for below in layers[:number] for i in below.leaves):
            return [*starts, ("dZ", number, bad)]
        starts += [("dW" if i == layer.W else "db", number, (i,)) for i in bad]
    return starts


def _ends(layer: Product, shapes) -> tuple[int, int]:
    """n_prev and n."""
    return layer.matrix(np.empty(shapes[layer.W], bool)).shape[::-1]
