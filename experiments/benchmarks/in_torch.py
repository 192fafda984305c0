"""The work in PyTorch: eager, with fused optimizers, compiled, under autocast."""

import contextlib

import numpy as np

import jaxnet
from experiments.benchmarks.contest import Contestant
from experiments.benchmarks.workload import Workload


def eager(work: Workload, threads: int, fused=False, compiled=False, autocast=False, device="cpu") -> Contestant:
    """A loop of steps: forward, backward, optimizer.step.

    The steps of Adam, g / √g² at first, turn roundings of small gradients into steps of full size.
    """
    name = "torch" + " compile" * compiled + " fused" * fused + " autocast" * autocast
    name += f", {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else f" on {device}"

    def prepare():
        import torch

        kinds = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
        X, Y = (torch.tensor(np.ascontiguousarray(a.T), device=device) for a in (work.X, work.Y))
        labels = torch.tensor(work.labels, device=device)
        batches = [torch.tensor(batch, device=device) for batch in work.batches]

        def build():
            layers = []
            for W, b in work.params:
                linear = torch.nn.Linear(W.shape[1], W.shape[0], device=device)
                with torch.no_grad():
                    linear.weight.copy_(torch.tensor(np.array(W)))
                    linear.bias.copy_(torch.tensor(np.array(b)[:, 0]))
                layers += [linear, kinds[work.hidden]()]
            return torch.nn.Sequential(*layers[:-1])

        binary = work.sizes[-1] == 1
        loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()

        def loss(model, batch):
            with torch.autocast(device, torch.bfloat16) if autocast else contextlib.nullcontext():
                Z = model(X[batch])
            return loss_of(Z.float(), Y[batch] if binary else labels[batch])

        forward = torch.compile(loss, mode="max-autotune-no-cudagraphs") if compiled else loss

        def run():
            torch.set_num_threads(threads)
            model = build()
            kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[work.optimizer]
            optimizer = kind(model.parameters(), lr=work.rate, **({"fused": True} if fused else {}))
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                forward(model, batch).backward()
                optimizer.step()
            linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
            params = [(p.weight.detach().cpu().numpy(), p.bias.detach().cpu().numpy()[:, None]) for p in linear]
            return tuple(jaxnet.Layer(*p) for p in params)

        return run

    return Contestant(
        name, prepare, work.cost, "torch", tolerance=5e-2 if work.optimizer == "adam" else 2e-2 if autocast else 1e-2
    )
