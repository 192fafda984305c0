"""d"""
def diagnose(problem, manual, findings, rng):
    """d"""
    return None, None
