"""Why is it wrong? The story of the causes: no cause is better than a wrong one.

First one cause for all leaves (a factor, something done to every entry, another order), then what each leaf shows by
itself (leaf_causes.py), then, for layered parameters, where in the backward pass the error starts, which step is wrong
there and which leaves only inherit it (localisation.py).
"""

from jaxnet.verify.elementwise import done_to_entries
from jaxnet.verify.evidence import Evidence
from jaxnet.verify.factors import factor_of_all
from jaxnet.verify.leaf_causes import shown_by_itself
from jaxnet.verify.localisation import layer_by_layer, leaf_by_leaf, top_of_all
from jaxnet.verify.slopes import Slopes
from jaxnet.verify.starts import by_itself
from jaxnet.verify.tree import called


def diagnose(problem, manual, findings, rng) -> tuple[str | None, str | None]:
    """The cause in a sentence or two and where the error starts; None where nothing could be confirmed.

    Also writes each leaf's own cause into its finding.
    """
    known = all(f.autodiff for f in findings)
    evidence = (Evidence if known else Slopes)(problem, manual, findings, rng)
    wrong = [i for i, f in enumerate(findings) if f.wrong]
    told = told_already(evidence, wrong)
    if told is not None:
        return told, None
    together = factor_of_all(evidence, wrong)
    if together is not None:
        return together, top_of_all(evidence, wrong) if evidence.layers else None
    judged = [i for i, f in enumerate(findings) if f.verdict in ("PASS", "FAIL")]
    together = done_to_entries(evidence, judged) if len(wrong) > 1 else None
    if together is not None:
        return f"Every leaf: {together.text}.", None
    for i in wrong:
        if findings[i].cause is None:
            findings[i].cause = shown_by_itself(evidence, i)
    swapped = another_order(evidence, wrong)
    if swapped is not None:
        return swapped, None
    causes = {findings[i].cause for i in wrong}
    if len(judged) == len(wrong) > 1 and len(causes) == 1 and by_itself(findings[wrong[0]]):
        return f"Every leaf: {causes.pop().text}.", None
    return layer_by_layer(evidence, wrong) if evidence.layers else (leaf_by_leaf(evidence, wrong), None)


def told_already(evidence, wrong) -> str | None:
    """One cause that the run itself has shown for all wrong leaves (a variant, a second call)."""
    causes = {evidence.findings[i].cause for i in wrong}
    if None in causes or not causes:
        return None
    kinds = {cause.kind for cause in causes}
    return f"{min(causes).text}." if len(kinds) == 1 else None


def another_order(evidence, wrong) -> str | None:
    """The leaves are right and in another order."""
    findings, source = evidence.findings, {}
    for i in wrong:
        f = findings[i]
        for j, other in enumerate(findings):
            if f.comparable and j != i and other.r is not None and evidence.equal(f.g, other.r, other):
                source[i] = j
    if len(source) < 2 or set(source) != set(wrong) or set(source.values()) != set(wrong):
        return None
    names = ", ".join(
        f"{called(findings[i].path)} holds {called(findings[j].path)}'s" for i, j in list(source.items())[:4]
    )
    return f"The leaves are swapped, in another order: {names}."
