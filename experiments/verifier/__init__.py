"""Gradient checkers compared: wrong gradients that they should refuse, correct ones that they should accept."""
