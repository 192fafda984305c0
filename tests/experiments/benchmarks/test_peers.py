"""The peers do the same work: in their fastest forms too they take the steps of their plain ones."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxnet
from experiments.benchmarks import ours, peers
from experiments.benchmarks.workload import DECAY, clusters, digits
from jaxnet import convert
from tests.comparison import assert_trees_close


@pytest.mark.parametrize("batch_size", [None, 32])
def test_what_a_graph_records_are_the_steps_from_the_start(batch_size, monkeypatch):
    """Its steps run one by one, twice, end where the eager loop does; the recording itself needs a GPU."""
    pytest.importorskip("torch")

    def replay_of(steps):
        steps()  # as a warm-up, which must not be seen in the result
        return steps

    monkeypatch.setattr(peers.torch, "replay_of", replay_of)
    work = dataclasses.replace(digits((64, 32, 10), 32, 2, 0.1), batch_size=batch_size)
    graph = peers.torch.cuda_graph(work, device="cpu")
    assert graph.absence == "needs a GPU"
    want, run = convert.from_torch(peers.torch.eager(work, 1).prepare()())[1], graph.prepare()
    for _ in range(2):
        assert_trees_close(convert.from_torch(run())[1], want, 1e-5)


def test_stacked_nets_learn_as_each_would():
    """With rates of 0 and r the first one stays, at the cost of its start, and the second does as the loop does."""
    pytest.importorskip("torch")
    work = digits((64, 32, 10), 32, 3, 0.1)
    still, learning = peers.torch_sweep.stack(work, np.float32([0, 0.1]), 1).prepare()()
    assert still > 2.3
    np.testing.assert_allclose(learning, peers.torch_sweep.loop(work, [0.1]).prepare()()[0], rtol=0.25)


@pytest.mark.parametrize(("hidden", "arrays"), [("relu", 5), ("tanh", 5), ("softplus", 9), ("gelu", 9), ("silu", 9)])
def test_what_torch_saves_is_counted_without_computing_it(hidden, arrays):
    """Of 4 hidden layers A alone, or Z and A, where a derivative needs both, and the output for the cost."""
    pytest.importorskip("torch")
    net = jaxnet.MLP((8,) * 6, (hidden,) * 4 + ("identity",))
    params = jaxnet.init(net, jax.random.key(0))
    for device in ("meta", "cpu"):
        assert peers.torch_memory.saved_bytes(net, params, 32, device) == arrays * 8 * 32 * 4


def test_rows_and_back():
    """In memory of their own: a peer that donates its params leaves ours alone."""
    work = digits((64, 8, 8, 10), 32, 1, 0.1, hidden="tanh")
    rows = peers.jax.to_rows(work.params)
    assert_trees_close(peers.jax.from_rows(rows), work.params, 0)
    A = work.X[:, :6].T
    _, cache = jaxnet.forward(work.net, work.params, work.X[:, :6])
    np.testing.assert_allclose(peers.jax.logits(work, rows, A), cache[-1].Z.T, rtol=1e-4, atol=1e-6)
    rows[0][0].delete()
    assert np.isfinite(work.params[0].W).all()


def test_scikit_learn_starts_from_our_two_outputs():
    """It knows the second's less the first's: as good a start, not two units that both learn one class."""
    work = clusters((2, 8, 2), 200, 4, 20, 0.05, hidden="tanh")
    peer = peers.sklearn.classifier(work)
    own = ours.fit(work)
    assert peer.cost(peer.prepare()()) < 1.25 * own.cost(own.prepare()()) < 0.6


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 1e-2), ("adamw", 1e-2)])
def test_torch_in_its_fastest_form_takes_the_steps_of_its_optimizers(optimizer, rate):
    torch = pytest.importorskip("torch")
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"weight_decay": DECAY} if optimizer == "adamw" else {}
    work = digits((64, 32, 10), 32, 1, rate, optimizer=optimizer)
    model = peers.torch.logits_of(work)
    plain = kinds[optimizer](model.parameters(), lr=rate, **options)
    X, labels = torch.tensor(work.X.T.copy()), torch.tensor(work.labels)
    for batch in map(torch.tensor, work.batches):
        plain.zero_grad()
        torch.nn.functional.cross_entropy(model(X[batch]), labels[batch]).backward()
        plain.step()
    assert_trees_close(
        convert.from_torch(peers.torch.eager(work, 1).prepare()())[1], convert.from_torch(model)[1], 1e-5
    )
