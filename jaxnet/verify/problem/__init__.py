"""The question: a loss at a point, the gradient under test, the examples."""
