"""Why is it wrong? The story of the causes: no cause is better than a wrong one.

First one cause for all leaves (a factor, another order), then what each leaf shows by itself (leaf_causes.py), then,
for layered parameters, where in the backward pass the error starts (layers.py) and which step is wrong there
(chain.py).
"""

from jaxnet.verify.chain import explain
from jaxnet.verify.evidence import Evidence
from jaxnet.verify.factors import factor_of_all
from jaxnet.verify.layers import start_of_error
from jaxnet.verify.leaf_causes import shown_by_examples, shown_by_itself
from jaxnet.verify.tree import called
from jaxnet.verify.trouble import tolerated


def diagnose(problem, manual, findings, rng) -> tuple[str | None, str | None]:
    """The cause in a sentence or two and where the error starts; None where nothing could be confirmed.

    Also writes each leaf's own cause into its finding.
    """
    evidence = Evidence(problem, manual, findings, rng)
    wrong = [i for i, f in enumerate(findings) if f.wrong]
    told = told_already(evidence, wrong)
    if told is not None:
        return told, None
    together = factor_of_all(evidence, wrong)
    if together is not None:
        starts = start_of_error(evidence.layers, set(wrong)) if evidence.layers else ()
        return together, f"{starts[0][0]}[{starts[0][1]}]" if starts else None
    for i in wrong:
        if findings[i].cause is None:
            findings[i].cause = shown_by_itself(evidence, i)
    swapped = another_order(evidence, wrong)
    if swapped is not None:
        return swapped, None
    return layer_by_layer(evidence, wrong) if evidence.layers else (leaf_by_leaf(evidence, wrong), None)


def told_already(evidence, wrong) -> str | None:
    """One cause that the run itself has shown for all wrong leaves (a variant, a second call)."""
    causes = {evidence.findings[i].cause for i in wrong}
    if None in causes or not causes:
        return None
    kinds = {c.split(" by ")[0].split(":")[0].split(" differs")[0] for c in causes}
    return f"{min(causes)}." if len(kinds) == 1 else None


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
    names = ", ".join(f"{findings[i].path} holds {findings[j].path}'s" for i, j in list(source.items())[:4])
    return f"The leaves are swapped, in another order: {names}."


def leaf_by_leaf(evidence, wrong) -> str | None:
    """Each wrong leaf's own cause, where there is one."""
    lines = []
    for i in wrong:
        f = evidence.findings[i]
        f.cause = f.cause or shown_by_examples(evidence, i)
        if f.cause:
            lines.append(f"{called(f.path)}: {f.cause}.")
    return " ".join(lines) or None


def layer_by_layer(evidence, wrong) -> tuple[str | None, str | None]:
    """The sentences of cause from the top layer down, the start, and which leaves inherit."""
    findings, layers = evidence.findings, evidence.layers
    starts = start_of_error(layers, set(wrong))
    if not starts:
        return leaf_by_leaf(evidence, wrong), None
    sentences = [_at_start(evidence, kind, number, leaves, wrong) for kind, number, leaves in starts]
    kind, lowest, _ = starts[-1]
    if kind == "dZ":
        for i in {i for layer in layers[: lowest - 1] for i in layer.leaves if i in wrong}:
            findings[i].cause, findings[i].note = None, f"inherits the error of dZ[{lowest}]"
    return " ".join(filter(None, sentences)) or None, f"{starts[0][0]}[{starts[0][1]}]"


def _at_start(evidence, kind, number, leaves, wrong) -> str:
    """What to say of one place where an error starts."""
    findings = evidence.findings

    def own():
        return {i: findings[i].cause for i in leaves if findings[i].cause}

    def joined():
        return "; ".join(f"{evidence.name(i)}: {text}" for i, text in own().items()) + "."

    if not all(findings[i].comparable for i in leaves):
        return joined() if own() else ""
    where = _where(evidence, kind, number, wrong)
    if len(own()) < len(leaves):
        because = _explained(evidence, kind, number)
        if because is None:
            for i in leaves:
                findings[i].cause = findings[i].cause or shown_by_examples(evidence, i)
    if len(own()) < len(leaves):
        for i in leaves if kind == "dZ" else ():  # half a name for one dZ is no name
            findings[i].cause = None
        return f"{where} {because or ''}".strip()
    if kind == "dZ" and len({text.split(":")[0].split("(")[0].split(" in ")[0].strip() for text in own().values()}) > 1:
        return joined()  # two leaves of one layer, two different faults: not one dZ
    return f"{where} {joined()}"


def _where(evidence, kind, number, wrong) -> str:
    """The error starts at ...; above is right; below follows."""
    layers = evidence.layers
    layer = layers[number - 1]
    if kind == "dZ":
        above_is_right = number < len(layers) and not set(layers[number].leaves) & set(wrong)
        above = f" dZ[{number + 1}] is right;" if above_is_right else ""
        below = [n for n in range(1, number) if set(layers[n - 1].leaves) & set(wrong)]
        rest = f" and the layer{'s' if len(below) > 1 else ''} below ({', '.join(map(str, below))})" if below else ""
        return f"The error starts at dZ[{number}];{above} dW[{number}] and db[{number}]{rest} follow from it."
    if kind == "dW":
        right = f"; db[{number}] is right, so dZ[{number}] is" if layer.b is not None else ""
        return f"The error starts at dW[{number}]{right}."
    return f"The error starts at db[{number}]; dW[{number}] is right, so dZ[{number}] is."


def _explained(evidence, kind, number) -> str | None:
    """Which step of the layer is wrong."""
    if evidence.batch is None:
        return None
    with tolerated(evidence.problem, "the diagnosis"):  # evidence that could not be had names nothing
        return explain(evidence, kind, number)
    return None
