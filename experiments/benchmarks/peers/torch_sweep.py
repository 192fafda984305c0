"""Many nets in PyTorch: one after the other, or all at once as torch.func lifts one.

Each member has a start and an order of its own; what comes back is each one's mean cost over its last epoch.
"""

import numpy as np

from experiments.benchmarks.benchmark import OTHER_ORDER, Implementation
from experiments.benchmarks.peers.torch import configure, label, logits_of, replay_of, update_step
from experiments.benchmarks.workload import Workload


def loop(work: Workload, learning_rates) -> Implementation:
    """A loop over nets, each a loop of eager steps."""

    def prepare():
        import torch

        X, labels = torch.tensor(np.ascontiguousarray(work.X.T)), torch.tensor(work.labels)

        def last_cost(learning_rate):
            model = logits_of(work)
            for layer in (layer for layer in model if isinstance(layer, torch.nn.Linear)):
                torch.nn.init.normal_(layer.weight, std=(2 / layer.in_features) ** 0.5)
            step, loss_of = update_step(model.parameters(), learning_rate), torch.nn.CrossEntropyLoss()
            for _ in range(work.epochs):
                total = 0.0
                for i in torch.randperm(work.m).reshape(-1, work.batch_size):
                    J = loss_of(model(X[i]), labels[i])
                    step(J)
                    total += J.detach()
            return float(total) * work.batch_size / work.m

        def run():
            torch.manual_seed(0)
            configure(1, work.precision)
            return [last_cost(float(learning_rate)) for learning_rate in learning_rates]

        return run

    return Implementation("torch, a loop", prepare, np.median, "torch", tolerance=OTHER_ORDER)


def stack(work: Workload, learning_rates, threads, graph=False, device="cpu") -> Implementation:
    """torch.func.vmap of the gradient of one net, over stacked params; an epoch may be recorded as a CUDA graph."""

    def prepare():
        import torch
        from torch.func import functional_call, grad_and_value, vmap

        n, steps = len(learning_rates), work.m // work.batch_size
        X, labels = (torch.tensor(a, device=device) for a in (np.ascontiguousarray(work.X.T), work.labels))
        model = logits_of(work, device)
        params = {name: torch.zeros(n, *p.shape, device=device) for name, p in model.named_parameters()}
        minus_rates = -torch.tensor(learning_rates, device=device)
        minus = {name: minus_rates.view(n, *(1,) * (p.ndim - 1)) for name, p in params.items()}
        order = torch.zeros(n, steps, work.batch_size, dtype=torch.long, device=device)
        total = torch.zeros(n, device=device)

        def loss(params, X, labels):
            return torch.nn.functional.cross_entropy(functional_call(model, params, X), labels)

        each = vmap(grad_and_value(loss))

        def epoch():
            total.zero_()
            for i in order.unbind(1):
                grads, J = each(params, X[i], labels[i])
                for name, p in params.items():
                    p.addcmul_(grads[name], minus[name])
                total.add_(J)

        configure(threads, work.precision)
        train = replay_of(epoch) if graph else epoch

        def run():
            torch.manual_seed(0)
            configure(threads, work.precision)
            for p in params.values():
                p.normal_(std=(2 / p.shape[-1]) ** 0.5) if p.ndim == 3 else p.zero_()
            for _ in range(work.epochs):
                order.copy_(torch.rand(n, work.m, device=device).argsort(dim=1).view_as(order))
                train()
            return total.cpu().numpy() / steps

        return run

    name = label("torch, vmap of stacked nets" + ", CUDA graph" * graph, threads, device)
    needs = "a GPU" if graph and device != "cuda" else None
    return Implementation(name, prepare, np.median, "torch", tolerance=OTHER_ORDER, needs=needs)
