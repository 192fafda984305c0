"""jaxnet: neural networks from first principles in JAX."""
