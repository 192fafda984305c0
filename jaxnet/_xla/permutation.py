"""The order of an epoch's examples: a permutation that is computed place by place, where jax.random sorts.

A Feistel network turns any function F into a bijection: (L, R) -> (R, L + F(R) mod a) can be undone, so six rounds of
it scatter the a² pairs of digits of 0..a²-1 without two of them meeting. Places that land at m or beyond are sent on
until they are below m (cycle walking), which leaves a bijection of 0..m-1. There are fewer than 2a places from m on:
where each of them ends is found beforehand, in a number of doublings that is known when the program is compiled (a loop
that ends when the last has arrived would be decided by the host on a GPU). All else is elementwise, which on a CPU is
far faster than a sort. It is pseudo-random: above `EXACT_UP_TO` not all of the m! orders can occur.

Source: J. Black and P. Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002 (the generalised Feistel cipher);
the mixer is C. Wellons', Prospecting for hash functions, 2018. Levanter's
data loader permutes in the same way, on the host.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

ROUNDS = 6
EXACT_UP_TO = 256  # so few are ranked as fast, and all of their orders are equally likely


def random_permutation(
    key: PRNGKeyArray | Array, m: int, counting: UInt32[Array, ""] | None = None
) -> Int[Array, " m"]:
    """Return 0..m-1 in an order that depends on the key alone; m is below 2^31.

    Where a number of them counts, which may be traced, the first so many are permuted as if there were no others, and
    these stay where they are.
    """
    places = jnp.arange(m, dtype=jnp.uint32)
    if m <= EXACT_UP_TO:
        x = jax.random.bits(key, (m,), jnp.uint32)
        return _ranks(x if counting is None else jnp.where(places < counting, x, jnp.uint32(2**32 - 1)))
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    side = math.isqrt(m - 1) + 1
    if counting is None:  # a is the least with a² >= n
        n, a, own, beyond = m, side, places, jnp.arange(m, side * side, dtype=jnp.uint32)
    else:  # from n on as many as there can be, the last of them repeated
        n, a = counting, (jnp.arange(side, dtype=jnp.uint32) ** 2 < counting).sum(dtype=jnp.uint32)
        own = jnp.minimum(places, n - 1)
        beyond = jnp.minimum(n + jnp.arange(2 * side, dtype=jnp.uint32), a * a - 1)

    def scatter(place):
        left, right = place // a, place % a
        for round_key in keys:
            moved = left + _below(a, _mixed(right ^ round_key))
            left, right = right, jnp.where(moved >= a, moved - a, moved)
        return left * a + right

    place = scatter(own)
    if beyond.size:
        end = _ends(n, scatter(beyond))
        place = jnp.where(place >= n, _at(end, place, n), place)
    return (place if counting is None else jnp.where(places < n, place, places)).astype(jnp.int32)


def _ends(m, sent: UInt32[Array, " beyond"]) -> UInt32[Array, " beyond"]:
    """Where each place from m on arrives below m, sent on as often as it takes; each doubling sends it twice as far.

    (Those that only ever meet each other stay where they are: no place below m is sent to them. The select is not
    jnp.where, which in a loop of jax 0.12 stays a call of its own.)
    """
    twice_as_far = lambda _, end: jax.lax.select(end >= m, _at(end, end, m), end)
    return jax.lax.fori_loop(0, sent.size.bit_length(), twice_as_far, sent)


def _at(end, place, m):
    """The end of each place, if that is m or more."""
    return end.at[jnp.where(place >= m, place - m, 0)].get(mode="promise_in_bounds")


def _ranks(x: UInt32[Array, " m"]) -> Int[Array, " m"]:
    """How many entries come before each one, by counting: a sort is not elementwise."""
    place = jnp.arange(x.size)
    before = (x[None, :] < x[:, None]) | ((x[None, :] == x[:, None]) & (place[None, :] < place[:, None]))
    return before.sum(axis=1, dtype=jnp.int32)


def _mixed(x: UInt32[Array, " m"]) -> UInt32[Array, " m"]:
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _below(a, x: UInt32[Array, " m"]) -> UInt32[Array, " m"]:
    """The upper 16 bits of x scaled to 0..a-1; a is at most 2^16."""
    return ((x >> 16) * jnp.uint32(a)) >> 16
