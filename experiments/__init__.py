"""Scripts, one per claim: they import jaxnet and are never imported by it."""
