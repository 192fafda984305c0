"""Training: from one step to many networks."""
