"""A function as a jaxpr, and the ways of reading it again."""
