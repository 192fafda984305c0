"""From loops over examples to the matrix form."""
