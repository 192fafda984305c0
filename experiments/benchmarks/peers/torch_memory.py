"""One step of gradient descent in PyTorch: its time, and what it holds between its forward and its backward pass."""

import numpy as np

from experiments.benchmarks.benchmark import Implementation
from experiments.benchmarks.peers.torch import configure, label
from jaxnet import convert

LEARNING_RATE = 1e-3


def cost(model, X, Y):
    """Half the mean square of the distance; the sum over units, the mean over rows."""
    import torch

    return torch.nn.functional.mse_loss(model(X), Y, reduction="sum") / (2 * len(X))


def step(model, X, Y):
    """The cost and the params after the step, as new tensors: the model stays as it is."""
    import torch

    parameters = tuple(model.parameters())
    J = cost(model, X, Y)
    grads = torch.autograd.grad(J, parameters)
    with torch.no_grad():
        return J, torch._foreach_add(parameters, grads, alpha=-LEARNING_RATE)


def implementation(net, params, X, threads, device="cpu") -> Implementation:
    """A step with X, which has examples as columns, as its own target."""

    def prepare():
        import torch

        model, rows = convert.to_torch(net, params).to(device), torch.tensor(np.array(X.T), device=device)

        def run():
            configure(threads, "float32")
            J, _ = step(model, rows, rows)
            return float(J.detach())  # on a GPU it waits for all of the step

        return run

    return Implementation(label("torch", threads, device), prepare, package="torch")


def saved_bytes(net, params, m, device="meta") -> int:
    """The bytes of all that autograd saves in the forward pass, each storage once, without the params and the data.

    On the device meta, where tensors have sizes and no values, nothing is computed or held.
    """
    import torch

    model = convert.to_torch(net, params).to(device)
    X = torch.empty(m, params[0].W.shape[1], device=device)
    storages = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cost(model, X, X)
    given = {tensor.untyped_storage()._cdata for tensor in (X, *model.parameters())}
    return sum(storage.nbytes() for key, storage in storages.items() if key not in given)


def memory(net, params, m, device) -> tuple[int, str]:
    """The bytes on m examples, and what they are: not the same as a compiler's temporary memory."""
    if device == "cuda":
        return peak_bytes(net, params, m), (
            "the most that its allocator handed out above params and data; gradients and new params are in it"
        )
    return saved_bytes(net, params, m), (
        "what autograd saves for the backward pass, each storage once, without params and data; "
        "gradients, new params, dA and dZ, which come on top, are not in it"
    )


def peak_bytes(net, params, m, device="cuda") -> int:
    """The most bytes that torch's allocator handed out during a step, without the params and the data."""
    import torch

    model = convert.to_torch(net, params).to(device)
    X = torch.ones(m, params[0].W.shape[1], device=device)
    step(model, X, X)  # the first one makes the libraries' workspaces
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(model, X, X)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
