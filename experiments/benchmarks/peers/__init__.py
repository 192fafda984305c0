"""The same work in other libraries, each in the best form that its own users write: `peers.torch.eager(work, 1)`.

A library is imported where its work is prepared, never with this package, so that one may be absent.
"""

from experiments.benchmarks.peers import jax, keras, numpy, sklearn, torch, torch_memory, torch_sweep

__all__ = ["jax", "keras", "numpy", "sklearn", "torch", "torch_memory", "torch_sweep"]
