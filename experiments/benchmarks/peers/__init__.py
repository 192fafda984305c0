"""The same work in other libraries, each in the best form that its own users write."""
