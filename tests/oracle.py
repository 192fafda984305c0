"""The notes as a NumPy program with explicit loops over examples, layers and units; imports nothing of jaxnet.

Section 2 (one unit: z = w·x + b, a = g(z)), section 3 (for i = 1..m), section 7 (g'), section 8 (backward).
Derivatives are the textbook's, in z alone. `params` is a list of (W, b) with W (n, n_prev), b (n, 1).
"""

import math

import numpy as np


def sigma(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def normal_cdf(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def normal_density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


G = {
    "identity": lambda z: z,
    "sigmoid": sigma,
    "tanh": lambda z: (math.exp(z) - math.exp(-z)) / (math.exp(z) + math.exp(-z)),
    "relu": lambda z: max(0.0, z),
    "leaky_relu": lambda z: z if z >= 0 else 0.01 * z,
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "gelu": lambda z: z * normal_cdf(z),
    "silu": lambda z: z * sigma(z),
}

SLOPE = {
    "identity": lambda z: 1.0,
    "sigmoid": lambda z: sigma(z) * (1 - sigma(z)),
    "tanh": lambda z: 1 - math.tanh(z) ** 2,
    "relu": lambda z: 1.0 if z > 0 else 0.0,
    "leaky_relu": lambda z: 1.0 if z >= 0 else 0.01,
    "softplus": sigma,
    "gelu": lambda z: normal_cdf(z) + z * normal_density(z),
    "silu": lambda z: sigma(z) + z * sigma(z) * (1 - sigma(z)),
}


def layer_of_one_example(W, b, a_prev, activation):
    """Section 2, unit by unit: z_j = w_jᵀ a_prev + b_j, a_j = g(z_j)."""
    z = []
    for j in range(W.shape[0]):
        total = b[j, 0]
        for k in range(W.shape[1]):
            total += W[j, k] * a_prev[k]
        z.append(total)
    if activation == "softmax":
        top = max(z)
        powers = [math.exp(value - top) for value in z]
        a = [power / sum(powers) for power in powers]
    else:
        a = [G[activation](value) for value in z]
    return z, a


def forward_of_one_example(params, x, activations, kept=None):
    """Lists z[0..L] and a[0..L] for one example; layer 0 is the input. kept[l] is what dropout makes of each unit."""
    zs, activities = [list(x)], [list(x)]
    for layer, ((W, b), activation) in enumerate(zip(params, activations, strict=True)):
        z, a = layer_of_one_example(W, b, thinned(activities[-1], kept, layer), activation)
        zs.append(z)
        activities.append(a)
    return zs, activities


def thinned(a, kept, layer):
    """What the next layer reads of a[l]: d_j a_j, where d_j is 0 or 1/(1 - p)."""
    return a if kept is None or kept[layer] is None else [d * value for d, value in zip(kept[layer], a, strict=True)]


def kept_of_example(masks, i):
    return None if masks is None else [None if D is None else D[:, i] for D in masks]


def forward(params, X, activations):
    """A[L], column by column: for i = 1..m."""
    columns = [forward_of_one_example(params, X[:, i], activations)[1][-1] for i in range(X.shape[1])]
    return np.array(columns).T


def loss_of_one_example(a, y, output, loss):
    total = 0.0
    for a_k, y_k in zip(a, y, strict=True):
        if loss == "squared_error":
            total += 0.5 * (a_k - y_k) ** 2
        elif output == "sigmoid":
            total -= y_k * math.log(a_k) + (1 - y_k) * math.log(1 - a_k)
        else:
            total -= y_k * math.log(a_k)
    return total


def cost(params, X, Y, activations, loss, weights=None, l2=0.0, masks=None):
    """J = Σ w ℓ / Σ w + l2/2 Σ W²; masks are dropout's, (n, m) for each layer from the input, or None."""
    m = X.shape[1]
    weights = np.ones(m) if weights is None else weights
    total = 0.0
    for i in range(m):
        _, a = forward_of_one_example(params, X[:, i], activations, kept_of_example(masks, i))
        total += weights[i] * loss_of_one_example(a[-1], Y[:, i], activations[-1], loss)
    squares = sum(w * w for W, _ in params for w in W.ravel().tolist())
    return total / sum(weights) + l2 / 2 * squares


def backward(params, X, Y, activations, loss, weights=None, l2=0.0, masks=None):
    """Gradients as a list of (dW, db), and dX: section 8's formulas summed over examples, then divided by Σ w.

    To dW comes l2 W, of the penalty.
    """
    m, L = X.shape[1], len(params)
    weights = np.ones(m) if weights is None else weights
    grads = [(np.zeros(W.shape), np.zeros(b.shape)) for W, b in params]
    dX = np.zeros(X.shape)
    for i in range(m):
        kept = kept_of_example(masks, i)
        z, a = forward_of_one_example(params, X[:, i], activations, kept)
        dz = []
        for k in range(len(a[L])):
            slope = SLOPE[activations[-1]](z[L][k]) if loss == "squared_error" else 1.0
            dz.append(weights[i] * (a[L][k] - Y[k, i]) * slope)
        for layer in range(L, 0, -1):
            W, _ = params[layer - 1]
            dW, db = grads[layer - 1]
            a_prev = thinned(a[layer - 1], kept, layer - 1)
            for j in range(W.shape[0]):
                db[j, 0] += dz[j]
                for k in range(W.shape[1]):
                    dW[j, k] += dz[j] * a_prev[k]
            da_prev = [sum(W[j, k] * dz[j] for j in range(W.shape[0])) for k in range(W.shape[1])]
            da_prev = thinned(da_prev, kept, layer - 1)
            if layer == 1:
                dX[:, i] = da_prev
            else:
                g = activations[layer - 2]
                dz = [da * SLOPE[g](value) for da, value in zip(da_prev, z[layer - 1], strict=True)]
    total = sum(weights)
    return [(dW / total + l2 * W, db / total) for (dW, db), (W, _) in zip(grads, params, strict=True)], dX / total
