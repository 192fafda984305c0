"""What the author of a loss declared constant: the values behind stop_gradient.

By JAX's convention the gradient that ignores a stopped value is the true one. Autodiff knows; differences of the loss's
values see through a stop. So the loss is valued with what is stopped held where it is at the point of the check, and a
gradient that differentiates through a stop is told by the program without stops.

JAX's own stops stay as they are: they are part of a rule (the factors of a matrix in a solve) or change no derivative
(the largest logit). So are those inside of a rule that was set aside: with the rule in place they never acted.
"""

import abc

from jax import lax

from jaxnet.verify.readings import Float64, Outside
from jaxnet.verify.strip import equations, is_declared_stop, place_of

LANE = "moved and held"


def places_of_stops(jaxpr) -> list[str]:
    """Where the loss's author stops gradients, as "file.py:12"."""
    return list(dict.fromkeys(place_of(e) for e in equations(jaxpr) if is_declared_stop(e)))


class _Declared(Outside, abc.ABC):
    """Float64 with the declared stops read in another way; rules are read as they are."""

    def custom_rule(self, equation, inputs) -> list:
        """A custom_jvp or custom_vjp call, its stops left alone."""
        plain = Float64()
        outs = plain.custom_rule(equation, inputs)
        self.stripped += plain.stripped
        return outs

    def apply(self, equation, inputs) -> list:
        """One plain equation; a declared stop is `stopped`."""
        return [self.stopped(inputs[0])] if is_declared_stop(equation) else super().apply(equation, inputs)

    @abc.abstractmethod
    def stopped(self, value):
        """What stands for a value whose gradient is stopped."""


class Held(_Declared):
    """For a vmap over two lanes called LANE, the moved point and the one that stops hold on to."""

    def stopped(self, value):
        """The value in the second lane."""
        return lax.all_gather(value, LANE)[1]


class Through(_Declared):
    """The program without its stops."""

    def stopped(self, value):
        """The value, to be differentiated."""
        return value
