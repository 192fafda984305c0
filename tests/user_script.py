"""A user's script, which the type checker reads and the tests run: NumPy in, arrays out, no cast."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet


def main() -> float:
    """Train on the flower, resume, predict and verify; return the accuracy."""
    X, Y = jaxnet.datasets.flower()
    net = jaxnet.MLP((2, 4, 1), ("tanh", "sigmoid"))
    optimizer = optax.sgd(0.5, momentum=0.9)

    def stop(loop: jaxnet.LoopState, history: dict[str, np.ndarray]) -> bool:
        return history["cost"][-1] < 0.05

    first = jaxnet.fit(net, X, Y, key=jax.random.key(0), optimizer=optimizer, epochs=3, batch_size=50)
    result = jaxnet.fit(net, X, Y, optimizer=optimizer, epochs=40, batch_size=50, resume=first, callbacks=stop)
    Xj, Yj = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    J, grads = jaxnet.value_and_grad(net, result.params, Xj, Yj)
    if grads[0].W.shape != result.params[0].W.shape or not J > 0:
        raise SystemExit("the gradient is not one of these params")
    return float(jaxnet.accuracy(jaxnet.predict(net, result.params, np.float32(X)), Yj))


if __name__ == "__main__":
    print(main())
