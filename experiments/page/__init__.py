"""The page of all experiments: the document, its style, its modules of JavaScript, and how they become one file."""
