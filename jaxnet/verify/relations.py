"""d"""
def relations(problem, manual, findings, rng):
    """d"""
    return [], "none"
