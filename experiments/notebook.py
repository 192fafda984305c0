# %% [markdown]
# # The notes, as a notebook
#
# The ten sections of [the notes](../jaxnet/NOTES.md), computed cell by cell. This file is a notebook in the percent
# format: VS Code opens it as it is, Jupyter with jupytext (`pip install jupytext`, then "Open With > Notebook").
# It needs `pip install -e ".[experiments]"`, for the figures. Every `assert` is a claim of the notes.

# %%
# ruff: noqa: B018, D100, N816
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxnet
from jaxnet.activations import ACTIVATIONS

# %% [markdown]
# ## 1. Representation
# Two inputs, four hidden units, one output: two layers, for the input is not counted. W[l] is (n, n_prev) and b[l] is
# (n, 1).

# %%
net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
params = jaxnet.init(net, jax.random.key(0))
params

# %% [markdown]
# ## 2. Computing the output
# Unit by unit, z_j = w_jᵀ x + b_j; or all units of a layer at once, z = W x + b.

# %%
X, Y = (part.astype("float32") for part in jaxnet.datasets.flower())
(W1, b1), (W2, b2) = (tuple(map(np.asarray, layer)) for layer in params)
x = X[:, :1]
by_units = [sum(W1[j, k] * x[k, 0] for k in range(2)) + b1[j, 0] for j in range(4)]
z1 = W1 @ x + b1
assert np.allclose(by_units, z1[:, 0], atol=1e-6)
z1

# %% [markdown]
# ## 3. Many examples at once
# Examples are columns. One product computes what the loop over i = 1..m does.

# %%
A, cache = jaxnet.forward(net, params, X)
sigmoid = lambda z: 1 / (1 + np.exp(-z))
one_by_one = [sigmoid(W2 @ np.tanh(W1 @ X[:, [i]] + b1) + b2)[0, 0] for i in range(X.shape[1])]
assert np.allclose(one_by_one, A[0], atol=1e-6)
X.shape, A.shape

# %% [markdown]
# ## 4. Why that is the same
# A product works column by column. So a function of one example, lifted over columns, is that of the batch.

# %%
of_one = lambda x: jaxnet.forward(net, params, x[:, None])[0][:, 0]
assert np.allclose(jax.vmap(of_one, in_axes=1, out_axes=1)(jnp.asarray(X)), A, atol=1e-6)

# %% [markdown]
# ## 5. Activation functions
# σ and tanh are flat far out, where gradient descent hardly moves; relu is not.

# %%
names, z = ("sigmoid", "tanh", "relu"), jnp.linspace(-6, 6, 241)[None]
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharex=True)
for name in names:
    g = ACTIVATIONS[name]
    axes[0].plot(z[0], g(z)[0], label=name)
    axes[1].plot(z[0], g.derivative(z, g(z))[0], label=name)
axes[0].set(title="g(z)", xlabel="z", ylim=(-1.2, 2.5))
axes[1].set(title="g'(z)", xlabel="z")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 6. Why they must not be linear
# With g(z) = z two layers are one: W' = W[2] W[1] and b' = W[2] b[1] + b[2].

# %%
linear = jaxnet.MLP((2, 4, 1), ("identity", "identity"))
assert np.allclose(jaxnet.forward(linear, params, X)[0], (W2 @ W1) @ X + (W2 @ b1 + b2), atol=1e-5)

# %% [markdown]
# ## 7. Their derivatives
# The slopes at the points that the notes work out, and autodiff's beside them.

# %%
points = jnp.array([[-10.0, 0.0, 10.0]])
for name in names:
    g = ACTIVATIONS[name]
    slopes = g.derivative(points, g(points))
    autodiff = jax.vmap(jax.grad(lambda z, g=g: g(z[None, None])[0, 0]))(points[0])
    assert np.allclose(slopes[0], autodiff, atol=1e-6)
    print(f"{name:8}", slopes[0])

# %% [markdown]
# ## 8. Gradient descent
# Forward, the six formulas, a step against the derivatives; 100 times. First as the notes write it, with NumPy:


# %%
def gradient(W1, b1, W2, b2):
    """The six formulas."""
    m = X.shape[1]
    A1 = np.tanh(W1 @ X + b1)
    A2 = sigmoid(W2 @ A1 + b2)
    dZ2 = A2 - Y
    dW2 = 1 / m * dZ2 @ A1.T
    db2 = 1 / m * np.sum(dZ2, axis=1, keepdims=True)
    dZ1 = W2.T @ dZ2 * (1 - A1**2)
    dW1 = 1 / m * dZ1 @ X.T
    db1 = 1 / m * np.sum(dZ1, axis=1, keepdims=True)
    return dW1, db1, dW2, db2


leaves, alpha = [W1, b1, W2, b2], 0.5
for _ in range(100):
    leaves = [leaf - alpha * d for leaf, d in zip(leaves, gradient(*leaves), strict=True)]

# %% [markdown]
# And by `jaxnet.fit`, which compiles the whole loop. The params are the same; then on to 3,000 steps.

# %%
settings = {"optimizer": optax.sgd(alpha), "batch_size": None, "params": params, "key": jax.random.key(0)}
short = jaxnet.fit(net, X, Y, steps=100, **settings)
assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(leaves, jax.tree.leaves(short.params), strict=True))
result = jaxnet.fit(net, X, Y, steps=3000, **settings)
assert result.history["accuracy"][-1] > 0.85
result

# %%
jaxnet.plot.history(result)
jaxnet.plot.decision_boundary(net, result.params, X, Y)
plt.show()

# %% [markdown]
# Is a hand-written gradient right? The verifier says so, or where it is not. Here with the misprint of the notes, g[2]'
# where g[1]' belongs; a plain loss and a plain gradient are all that it asks for.

# %%
cost = lambda params, X, Y: jaxnet.cost(net, params, X, Y)


def misprinted(params, X, Y):
    """Section 8's formulas with σ'(Z[1]) in dZ[1]."""
    (W1, b1), (W2, b2) = params
    m = X.shape[1]
    Z1 = W1 @ X + b1
    A1 = jnp.tanh(Z1)
    dZ2 = (jax.nn.sigmoid(W2 @ A1 + b2) - Y) / m
    S = jax.nn.sigmoid(Z1)
    dZ1 = W2.T @ dZ2 * (S * (1 - S))
    layers = (dZ1, X), (dZ2, A1)
    return tuple(jaxnet.Layer(dZ @ A.T, dZ.sum(axis=1, keepdims=True)) for dZ, A in layers)


right = jaxnet.check_gradients(cost, lambda params, X, Y: jaxnet.value_and_grad(net, params, X, Y)[1], params, X, Y)
report = jaxnet.check_gradients(cost, misprinted, params, X, Y, raise_=False)
assert right and report.verdict == "FAIL"
assert [leaf.verdict for leaf in report.leaves.values()] == ["FAIL", "FAIL", "PASS", "PASS"]
report

# %% [markdown]
# ## 9. Why it goes backwards
# What forward has cached, Z and A of each layer, is all that the walk back needs; each derivative is autodiff's.

# %%
A, cache = jaxnet.forward(net, params, X)
grads, dX = jaxnet.backward(net, params, cache, (A - Y) / X.shape[1])
autodiff = jax.grad(cost)(params, jnp.asarray(X), jnp.asarray(Y))
for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(autodiff), strict=True):
    assert np.allclose(ours, theirs, atol=1e-6)
[layer.Z.shape for layer in cache], dX.shape

# %% [markdown]
# Of one example: the value at each place, from left to right, and below it the derivative of ℓ, from right to left.

# %%
jaxnet.plot.computation_graph(net, params, X[:, 0], Y[:, 0])
plt.show()

# %% [markdown]
# ## 10. Random initialisation
# From zeros all hidden units stay the same for ever; from small random weights they part.

# %%
start = {
    "zeros": jaxnet.init(net, jax.random.key(1), "zeros"),
    "randn * 0.01": jaxnet.init(net, jax.random.key(1), 0.01),
}
for name, params in start.items():
    (W1, b1), (W2, b2) = (tuple(map(np.asarray, layer)) for layer in params)
    leaves = [W1, b1, W2, b2]
    for _ in range(1000):
        leaves = [leaf - alpha * d for leaf, d in zip(leaves, gradient(*leaves), strict=True)]
    rows_are_equal = bool(np.allclose(leaves[0], leaves[0][:1]))
    assert rows_are_equal == (name == "zeros")
    print(f"{name:13} the rows of W[1] are {'equal' if rows_are_equal else 'apart'}")
