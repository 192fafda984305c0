"""Cases of per_example_grads, per_example_norms and clipped_grads."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from tests.fuzz.arguments import EITHER, FINE, POSITIVE, WRONG, Setting, changed, fine, junk, pick
from tests.fuzz.cases import Case, draws
from tests.fuzz.networks import (
    FEW,
    NETS,
    Problem,
    leafwise,
    network_arguments,
    network_case,
    point,
    settled,
    unlike,
    unlike_layers,
)

NAMES = ("net", "params", "X", "Y", "precision")


@draws("per_example_grads", 6)
def per_example_grads(rng) -> Case:
    def complaint(grads, problem):
        each = [(want.params, errors.params) for want, errors in problem.of_each_example()]
        want, errors = (leafwise(lambda *leaves: np.stack(leaves), *trees) for trees in zip(*each, strict=True))
        return unlike_layers("grads", grads, want, errors, problem)

    own = point(rng, pick(rng, FEW), 3)
    return network_case(rng, "per_example_grads", NAMES, jaxnet.per_example_grads, complaint, ("X", "Y") * 3, own)


def norm(gradients) -> float:
    """Of all params together."""
    return float(np.sqrt(sum((leaf**2).sum() for layer in gradients.params for leaf in layer)))


@draws("per_example_norms", 6)
def per_example_norms(rng) -> Case:
    def complaint(norms, problem):
        want, errors = zip(*((norm(want), norm(errors)) for want, errors in problem.of_each_example()), strict=True)
        return unlike("norms", norms, want, errors, problem)

    return network_case(rng, "per_example_norms", NAMES, jaxnet.per_example_norms, complaint, ("X", "Y") * 3)


CLIPPED = (*NAMES, "weights")


@draws("clipped_grads", 6)
def clipped_grads(rng) -> Case:
    own = point(rng, pick(rng, NETS), int(rng.choice((1, 3))))
    change = changed(rng, *CLIPPED, "key", *("X", "Y", "max_norm", "noise_multiplier") * 2)
    given = settled(network_arguments(rng, CLIPPED, own, change), own.net, fewest=0)
    max_norms = Setting(
        right=(1, 2.5, np.float32(0.5), jnp.float32(2), np.array(3), 1e-3),
        wrong=(0, -1.0, "1", np.array([1.0, 2.0])),
        leave_out=POSITIVE,
    )
    multipliers = Setting(
        right=(0, 0.5, np.float32(1)),
        wrong=(-1.0, float("nan"), "0", np.array([0.0, 0.0])),
        leave_out=(*POSITIVE, "0"),
    )
    given["max_norm"] = max_norms.drawn(rng) if "max_norm" in change else fine(0.5)
    given["noise_multiplier"] = multipliers.drawn(rng) if "noise_multiplier" in change else fine(0.0)
    noise = given["noise_multiplier"].value if given["noise_multiplier"].status == FINE else 0
    given["key"] = fine(jax.random.key(0), "a key") if noise or rng.random() < 0.3 else fine(None)
    if "key" in change:  # where there is no noise it is not looked at
        odd = junk(rng, "a key")
        given["key"] = odd._replace(status=WRONG if noise else FINE if odd.value is None else EITHER)

    def complaint(grads):
        problem, most = Problem.of(given, own.net), float(given["max_norm"].value)
        weights = np.ones(problem.X.shape[1]) if problem.weights is None else problem.weights
        want = errors = leafwise(np.zeros_like, problem.params)
        for w, (g, off) in zip(weights, problem.of_each_example(), strict=True):
            length = norm(g)
            c = w * np.minimum(1, most / length) if length else w
            share = np.minimum(1, norm(off) / length) if length else 0.0
            want = leafwise(lambda total, g, c=c: total + c * g, want, g.params)
            bounds = leafwise(lambda e, g, share=share: e + share * np.abs(g), off.params, g.params)
            errors = leafwise(lambda total, e, c=c: total + abs(c) * e, errors, bounds)
        errors = leafwise(lambda e: e + 8 * most * float(noise), errors)  # eight deviations of the noise
        return unlike_layers("grads", grads, want, errors, problem)

    return Case("clipped_grads", given, jaxnet.clipped_grads, complaint, own.usual(given) | {"max_norm": 0.5})
