"""One leaf, one verdict."""
