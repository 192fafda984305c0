"""Differentially private gradient descent: what it promises, and what it costs."""
