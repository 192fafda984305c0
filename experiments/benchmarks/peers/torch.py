"""The work in PyTorch: eager, compiled, under autocast, as CUDA graphs; clipped sums by Opacus."""

import contextlib
import warnings
from functools import partial

import numpy as np

from experiments.benchmarks.benchmark import Implementation
from experiments.benchmarks.workload import DECAY, Workload
from jaxnet import convert


def label(name, threads, device) -> str:
    """An implementation's name, with the threads that it has or its device."""
    return name + (f", {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else f" on {device}")


def configure(threads, precision):
    """Set torch's threads and its products: TF32 where a work allows it, as jaxnet's "tf32" and jax.grad's default."""
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def logits_of(work: Workload, device="cpu"):
    """A torch.nn.Sequential with our start, whose logits its losses take."""
    return convert.to_torch(work.net, work.params, logits=True).to(device)


def wait_for(model, device):
    """Return the model when its GPU has computed it; a CPU has at once."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()
    return model


def update_step(parameters, learning_rate, optimizer="sgd"):
    """step(J), which moves the parameters down the gradient of J and is as fast as torch's users write it.

    For SGD one call for all gradients and one for all updates, faster for tiny nets than backward and optimizer.step.
    For Adam its fused optimizer, faster than its default.
    """
    import torch

    if optimizer == "sgd":
        parameters = tuple(parameters)

        def step(J):
            grads = torch.autograd.grad(J, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, grads, alpha=-learning_rate)

        return step

    kinds = {"adam": torch.optim.Adam, "adamw": partial(torch.optim.AdamW, weight_decay=DECAY)}
    return optimizer_step(kinds[optimizer](parameters, lr=learning_rate, fused=True))


def optimizer_step(optimizer):
    """step(J) by an optimizer of torch's."""

    def step(J):
        optimizer.zero_grad(set_to_none=True)
        J.backward()
        optimizer.step()

    return step


def eager(work: Workload, threads: int, compiled=False, autocast=False, device="cpu") -> Implementation:
    """A loop of steps: forward, backward, update.

    The steps of Adam, g / √g² at first, turn roundings of small gradients into steps of full size.
    """
    name = label("torch" + " compile" * compiled + " autocast" * autocast, threads, device)

    def prepare():
        import torch

        X, Y = (torch.tensor(np.ascontiguousarray(a.T), device=device) for a in (work.X, work.Y))
        labels = torch.tensor(work.labels, device=device)
        whole = work.batch_size is None  # all examples as they are: a full batch is not gathered
        batches = [slice(None) if whole else torch.tensor(batch, device=device) for batch in work.batches]

        binary = work.sizes[-1] == 1
        loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()

        def loss(model, batch):
            with torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext():
                Z = model(X[batch])
            return loss_of(Z.float(), Y[batch] if binary else labels[batch])

        compile_ = partial(torch.compile, mode="max-autotune-no-cudagraphs") if compiled else lambda function: function
        forward = compile_(loss)

        def by_parts(model):
            step = update_step(model.parameters(), work.learning_rate, work.optimizer)
            return lambda batch: step(forward(model, batch))

        skeleton = logits_of(work, device)

        @compile_
        def descend(parameters, batch):
            J = lambda p: loss(lambda A: torch.func.functional_call(skeleton, p, A), batch)
            grads = torch.func.grad(J)(parameters)
            torch._foreach_add_([*parameters.values()], [*grads.values()], alpha=-work.learning_rate)

        def as_one_program(model):
            parameters = {name: p.detach() for name, p in model.named_parameters()}
            return lambda batch: descend(parameters, batch)

        # one program for the step is faster than one for the loss; torch's fused Adam stays outside
        step_of = as_one_program if compiled and work.optimizer == "sgd" else by_parts

        def run():
            configure(threads, work.precision)
            model = logits_of(work, device)
            step = step_of(model)
            for batch in batches:
                step(batch)
            return wait_for(model, device)

        return run

    tolerance = 5e-2 if work.optimizer != "sgd" else 2e-2 if autocast else 1e-2
    return Implementation(
        name, prepare, lambda model: work.cost(convert.from_torch(model)[1]), "torch", tolerance=tolerance
    )


def cuda_graph(work: Workload, compiled=False, device="cuda") -> Implementation:
    """SGD with all steps of an epoch recorded once as a CUDA graph: no kernel waits for Python to start it."""

    def prepare():
        import torch

        X, labels = (torch.tensor(a, device=device) for a in (np.ascontiguousarray(work.X.T), work.labels))
        model = logits_of(work, device)
        parameters = tuple(model.parameters())
        start = [p.detach().clone() for p in parameters]
        epochs = torch.tensor(np.stack(work.batches), device=device).unflatten(0, (work.epochs, -1))
        order = epochs[0].clone()  # a graph reads and writes where it was recorded

        def loss(examples):
            return torch.nn.functional.cross_entropy(model(X[examples]), labels[examples])

        forward = torch.compile(loss, mode="max-autotune-no-cudagraphs") if compiled else loss

        step = update_step(parameters, work.learning_rate)

        def steps():
            for batch in order.unbind():
                step(forward(slice(None) if work.batch_size is None else batch))

        configure(1, work.precision)
        replay = replay_of(steps)

        def run():
            with torch.no_grad():
                torch._foreach_copy_(parameters, start)
            for epoch in epochs:
                order.copy_(epoch)
                replay()
            return wait_for(model, device)

        return run

    name = "torch" + " compile" * compiled + ", CUDA graph"
    needs = None if device == "cuda" else "a GPU"
    return Implementation(
        name, prepare, lambda model: work.cost(convert.from_torch(model)[1]), "torch", tolerance=1e-2, needs=needs
    )


def replay_of(steps):
    """A function that replays the kernels of steps() on a GPU, in the same memory, all started at once."""
    import torch

    aside = torch.cuda.Stream()  # what a first call makes, such as workspaces, must not be recorded
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            steps()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps()
    return graph.replay


def opacus_clipped_sum(work: Workload, max_norm: float, ghost: bool) -> Implementation:
    """The sum of clipped per-example gradients, without noise, by Opacus' own hooks.

    They form every example's gradient, or by ghost clipping their norms alone, and a second backward pass the sum.
    """

    def prepare():
        import torch
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping

        torch.set_num_threads(2)
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # X needs no gradient, as they say
        X, labels = torch.tensor(np.ascontiguousarray(work.X.T)), torch.tensor(work.labels)
        net = logits_of(work)
        if ghost:
            model = GradSampleModuleFastGradientClipping(net, loss_reduction="sum", max_grad_norm=max_norm)
        else:
            model = GradSampleModule(net, loss_reduction="sum")
        parameters = list(net.parameters())

        def run():
            model.zero_grad(set_to_none=True)
            losses = torch.nn.functional.cross_entropy(model(X), labels, reduction="none")
            losses.sum().backward(retain_graph=ghost)
            if ghost:
                scale = model.get_clipping_coef()
                model.zero_grad(set_to_none=True)
                model.disable_hooks()
                (scale * losses).sum().backward()
                model.enable_hooks()
                return [p.grad for p in parameters]
            norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in parameters]).norm(dim=0)
            scale = (max_norm / norms).clamp(max=1)
            return [torch.einsum("i,i...", scale, p.grad_sample) for p in parameters]

        return run

    def cost(grads):
        return sum(float((g**2).sum()) for g in grads) ** 0.5

    return Implementation(f"Opacus, {'ghost clipping' if ghost else 'hooks'}", prepare, cost, "opacus", tolerance=1e-3)


def opacus_training(work: Workload, max_norm: float, noise_multiplier: float) -> Implementation:
    """Private training by Opacus' own engine: Poisson batches, hooks, clipped sums and noise."""

    def prepare():
        import torch
        from opacus import PrivacyEngine

        torch.set_num_threads(2)
        warnings.filterwarnings("ignore")  # of hooks, and of noise that is not drawn by a cryptographic generator
        X, labels = torch.tensor(np.ascontiguousarray(work.X.T)), torch.tensor(work.labels)
        examples = torch.utils.data.TensorDataset(X, labels)

        def run():
            net = logits_of(work)
            model, optimizer, loader = PrivacyEngine().make_private(
                module=net,
                optimizer=torch.optim.SGD(net.parameters(), lr=work.learning_rate),
                data_loader=torch.utils.data.DataLoader(examples, batch_size=work.batch_size),
                noise_multiplier=noise_multiplier,
                max_grad_norm=max_norm,
            )
            for _ in range(work.epochs):
                for X, labels in loader:
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(X), labels).backward()
                    optimizer.step()
            return net

        return run

    def cost(net):
        return work.cost(convert.from_torch(net)[1])

    return Implementation("Opacus", prepare, cost, "opacus", tolerance=float("inf"))  # noise of its own
