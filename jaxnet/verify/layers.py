"""Layered parameters: finding the layers in any tree, and the place where an error starts.

    tuples of (W, b)        [0][0], [0][1], [1][0] ...        NamedTuples    [0].W, [0].b ...
    dicts with numbers      ['W1'], ['b1'], ['W2'] ...        Flax           ['Dense_0']['kernel'], ...['bias']

Names say which b belongs to which W. What comes before what is read from the program: W[l] is multiplied with something
that depends on all the W below it and on no other. Two towers side by side are no chain, whatever they are called.

Columns or rows as examples (W is (n, n_prev) or (n_prev, n)) is told by how the shapes chain.

Backwards, dZ[l] enters dW[l] = dZ[l] A[l-1]ᵀ, db[l] = Σ dZ[l] and everything below. So, from the top down:
both wrong means dZ[l]; only dW[l] means A[l-1] or the product; only db[l] means the sum; what lies below a wrong dZ
inherits it and is no bug of its own.
"""

import re
from dataclasses import dataclass

import numpy as np

KEY = re.compile(r"\['([^']*)'\]|\[(\d+)\]|\.(\w+)|\[<flat index (\d+)>\]")


@dataclass(frozen=True)
class Dense:
    """One layer: the positions of W and b among the leaves (b may be missing) and whether W is (n, n_prev)."""

    W: int
    b: int | None
    columns: bool

    @property
    def leaves(self) -> tuple[int, ...]:
        """W and b, as far as present."""
        return (self.W,) if self.b is None else (self.W, self.b)


def find_layers(paths: list[str], shapes: list[tuple[int, ...]], fed) -> list[Dense] | None:
    """The layers in order from the input up, or None where the tree is not a chain of dense layers.

    fed   for each leaf, the leaves that its matrix products see (dataflow.py)
    """
    keys = [[next(part for part in match if part) for match in KEY.findall(path)] for path in paths]
    for group_of in (_by_parent, _by_number):
        groups: dict[tuple, list[int]] = {}
        for i, key in enumerate(keys):
            name = group_of(key)
            if name is None:
                break
            groups.setdefault(name, []).append(i)
        else:
            for columns in (True, False):
                layers = [_layer(members, shapes, columns) for members in groups.values()]
                if not layers or not all(layers):
                    continue
                layers = _in_order(layers, fed)
                if layers and _chain(layers, shapes) and _plausible(layers, shapes):
                    return layers
    return None


def start_of_error(layers: list[Dense], wrong: set[int]) -> list[tuple[str, int, tuple[int, ...]]]:
    """Where errors start, from the top down: ("dZ" | "dW" | "db", layer from 1, the leaves that show it)."""
    starts = []
    for number in range(len(layers), 0, -1):
        layer = layers[number - 1]
        bad = [i for i in layer.leaves if i in wrong]
        if layer.b is not None and len(bad) == 2:
            return [*starts, ("dZ", number, tuple(bad))]
        if bad:
            starts.append(("dW" if bad[0] == layer.W else "db", number, tuple(bad)))
    return starts


def _by_parent(key):
    return tuple(key[:-1]) if len(key) >= 2 else None


def _by_number(key):
    match = re.fullmatch(r"(\D*?)_?(\d+)", key[-1]) if key else None
    return (*key[:-1], match[2]) if match else None


def _in_order(layers, fed) -> list[Dense] | None:
    """From the input up; None unless each W sees all those below it and no other."""
    weights = {layer.W for layer in layers}
    if any(fed[W] is None for W in weights):
        return None
    ordered = sorted(layers, key=lambda layer: len(fed[layer.W] & weights))
    below = [{layer.W for layer in ordered[:n]} for n in range(len(ordered))]
    return ordered if all(fed[x.W] & weights == b for x, b in zip(ordered, below, strict=True)) else None


def _layer(members, shapes, columns) -> Dense | None:
    weights = [i for i in members if len(shapes[i]) == 2 and min(shapes[i]) > 1]
    biases = [i for i in members if i not in weights]
    if len(weights) != 1:  # a layer of one unit: its weight is the leaf with more entries
        ranked = sorted(members, key=lambda i: (len(shapes[i]), np.prod(shapes[i])))
        if len(members) != 2 or len(shapes[ranked[1]]) != 2:
            return None
        weights, biases = [ranked[1]], [ranked[0]]
    if len(biases) > 1:
        return None
    n = shapes[weights[0]][0 if columns else 1]
    if biases and int(np.prod(shapes[biases[0]])) != n:
        return None
    return Dense(weights[0], biases[0] if biases else None, columns)


def _chain(layers, shapes) -> bool:
    outs = [shapes[layer.W][0 if layer.columns else 1] for layer in layers]
    ins = [shapes[layer.W][1 if layer.columns else 0] for layer in layers]
    return all(out == into for out, into in zip(outs, ins[1:], strict=False))


def _plausible(layers, shapes) -> bool:
    """A bias written as a row speaks for rows, as a column for columns; a flat one for either."""
    for layer in layers:
        if layer.b is not None and len(shapes[layer.b]) == 2 and max(shapes[layer.b]) > 1:
            column = shapes[layer.b][1] == 1
            if column != layer.columns:
                return False
    return True
