"""Flax NNX and optax: the loop, the batches, early stopping and what is saved are written by hand."""

import jax
import joblib
import numpy as np
import optax
import pandas as pd
from flax import nnx
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

table = pd.read_csv("penguins.csv")
classes, labels = np.unique(table["species"], return_inverse=True)
X, X_test, y, y_test = train_test_split(table.drop(columns="species"), labels, random_state=0)
X, X_validation, y, y_validation = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
numbers = make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")
names = OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")
columns = make_column_transformer(numbers, names).fit(X)
rows, held_out, test = (np.float32(columns.transform(part)) for part in (X, X_validation, X_test))
weights = np.float32(compute_sample_weight("balanced", y))
rngs = nnx.Rngs(0)
first, last = nnx.Linear(rows.shape[1], 32, rngs=rngs), nnx.Linear(32, 3, rngs=rngs)
net = nnx.Sequential(first, nnx.relu, nnx.Dropout(0.2, rngs=rngs), last)
optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)


@nnx.jit
def step(net, optimizer, X, y, weights):
    def loss(net):
        losses = optax.softmax_cross_entropy_with_integer_labels(net(X), y)
        return (weights * losses).sum() / weights.sum()

    optimizer.update(net, nnx.grad(loss)(net))


@nnx.jit
def validation_loss(net, X, y):
    return optax.softmax_cross_entropy_with_integer_labels(net(X), y).mean()


rng, best, since_best = np.random.default_rng(0), np.inf, 0
for _ in range(200):
    net.train()
    for batch in np.array_split(rng.permutation(len(rows)), -(-len(rows) // 128)):
        step(net, optimizer, rows[batch], y[batch], weights[batch])
    net.eval()
    loss = validation_loss(net, held_out, y_validation)
    if loss < best:
        best, since_best, params = loss, 0, jax.tree.map(np.asarray, nnx.state(net, nnx.Param))
    else:
        since_best += 1
    if since_best == 10:
        break
nnx.update(net, params)
print("accuracy", (net(test).argmax(axis=1) == y_test).mean())
joblib.dump((columns, classes, jax.tree.leaves(params)), "net.joblib")

# In another process.
import jax
import joblib
import pandas as pd
from flax import nnx

columns, classes, saved = joblib.load("net.joblib")
rows = columns.transform(pd.read_csv("penguins.csv").tail(3)).astype("float32")
first, last = nnx.Linear(rows.shape[1], 32, rngs=nnx.Rngs(0)), nnx.Linear(32, 3, rngs=nnx.Rngs(0))
net = nnx.Sequential(first, nnx.relu, nnx.Dropout(0.2), last)
nnx.update(net, jax.tree.unflatten(jax.tree.structure(nnx.state(net, nnx.Param)), saved))
net.eval()
print(classes[net(rows).argmax(axis=1)])
