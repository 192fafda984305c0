"""Where in the backward pass an error starts, in words; and what only inherits it.

The pattern of right and wrong leaves tells where (layers.py), single examples which step (chain.py) and whether a leaf
below a wrong dZ has the value that follows from it (inheritance.py). What neither tells is left open: "dZ[3] or dW[3]".
"""

from jaxnet.verify.chain import explain
from jaxnet.verify.inheritance import followers
from jaxnet.verify.layers import start_of_error
from jaxnet.verify.leaf_causes import shown_by_examples
from jaxnet.verify.noise import norm
from jaxnet.verify.tree import called
from jaxnet.verify.trouble import tolerated


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
    starts = start_of_error(layers, set(wrong), _right(evidence))
    if not starts:
        return leaf_by_leaf(evidence, wrong), None
    mixed = _mixed_examples(evidence, starts[0], wrong)
    if mixed is not None:
        return mixed
    kind, lowest, leaves = starts[-1]
    follows = _followers(evidence, lowest, wrong) if kind == "dZ" else {}
    below = [i for layer in layers[: lowest - 1] for i in layer.leaves if i in wrong]
    agreed = len(leaves) == 2 and any(follows.get(i, True) for i in leaves)
    inheriting = [i for i in below if kind == "dZ" and follows.get(i, agreed)]
    for i in inheriting:
        findings[i].cause = None
        proved = f"inherits the error of dZ[{lowest}]"
        findings[i].note = proved if i in follows else f"below dZ[{lowest}], whose error reaches it"
    sentences, places = zip(*(_at_start(evidence, *start, follows, inheriting) for start in starts), strict=True)
    rest = leaf_by_leaf(evidence, [i for i in below if i not in inheriting])
    return " ".join(filter(None, [*sentences, rest])) or None, places[0]


def _mixed_examples(evidence, start, wrong) -> tuple[str, str] | None:
    """A sum over examples does not see their order: db[l] is right and dZ[l] is not, nor is anything below it."""
    kind, number, _ = start
    below = {i for layer in evidence.layers[: number - 1] for i in layer.leaves}
    if kind != "dW" or evidence.batch is None or below & _right(evidence):
        return None
    with tolerated(evidence.problem, "the diagnosis"):
        for k in (0, evidence.batch.m - 1):
            g, r = evidence.example(k)
            for i in wrong:
                if g[i] is None or norm(r[i]) == 0.0 or not evidence.equal(g[i], r[i], evidence.findings[i]):
                    return None
        place = f"dZ[{number}]" if below else f"dW[{number}]"
        return (
            f"The error starts at {place}: examples are in another order there, or mixed up, for on copies of one "
            "example every leaf is right."
        ), place
    return None


def top_of_all(evidence, wrong) -> str | None:
    """The name of the place where an error that is in all leaves starts."""
    starts = start_of_error(evidence.layers, set(wrong), _right(evidence))
    return _place(evidence, *starts[0], {}, ()) if starts else None


def _right(evidence) -> set[int]:
    """The leaves that were judged and found right; frozen and inconclusive ones are neither right nor wrong."""
    return {i for i, f in enumerate(evidence.findings) if f.verdict == "PASS"}


def _followers(evidence, number, wrong) -> dict[int, bool]:
    """Which of the wrong leaves follow from one wrong dZ[number], as far as their values tell."""
    if evidence.batch is not None:
        with tolerated(evidence.problem, "the diagnosis"):
            return followers(evidence, number, set(wrong), _explained(evidence, "dZ", number) is not None)
    return {}


def _at_start(evidence, kind, number, leaves, follows, inheriting) -> tuple[str, str | None]:
    """What to say of one place where an error starts, and what it is called."""
    findings = evidence.findings

    def own():
        return {i: findings[i].cause for i in leaves if findings[i].cause}

    def joined():
        return "; ".join(f"{evidence.name(i)}: {text}" for i, text in own().items()) + "." if own() else ""

    place, because = _place(evidence, kind, number, leaves, follows, inheriting), None
    if not all(findings[i].comparable for i in leaves):
        return joined(), place
    if len(own()) < len(leaves):
        of_leaf = evidence.name(leaves[0])[:2]
        for step in (kind, of_leaf) if " or dW" in place else (kind,):
            because = because or _explained(evidence, step, number)
            if because:  # the step is known, and with it the place
                kind, place = step, f"{step}[{number}]"
        if because is None:
            for i in leaves:
                findings[i].cause = findings[i].cause or shown_by_examples(evidence, i)
    one = [i for i in leaves if follows.get(i, True)] if kind == "dZ" else []  # what one dZ explains
    if not set(one) <= set(own()):  # half a name for one dZ is no name
        for i in one:
            findings[i].cause = None
    if len({text.split(":")[0].split("(")[0].split(" in ")[0].strip() for i, text in own().items() if i in one}) > 1:
        return joined(), None  # two leaves of one layer, two different faults: not one dZ
    where = _where(evidence, kind, number, leaves, place, follows, inheriting)
    return " ".join(filter(None, [where, because, joined()])), place


def _place(evidence, kind, number, leaves, follows, inheriting) -> str:
    """What a start is called, with all else that the judged leaves allow."""
    above, showing = evidence.layers[number:][:1], [i for i in leaves if follows.get(i, True)]
    if kind == "dZ" and not showing:
        return f"layer {number}"
    also = ""
    if kind == "dZ" and above and not _right(evidence) & set(above[0].leaves):
        also += " or above"
    if kind == "dZ" and len(showing) == 1 and not any(follows.values()) and not inheriting:
        also += f" or {evidence.name(showing[0])}"
    return f"{kind}[{number}]{also}"


def _where(evidence, kind, number, leaves, place, follows, inheriting) -> str:
    """The error starts at ...; above is right; below follows."""
    layers, right, name = evidence.layers, _right(evidence), evidence.name
    said = [f"The error starts at {place}"]
    if kind != "dZ":
        witness = next((i for layer in layers[number - 1 :: -1] for i in layer.leaves if i in right), None)
        if witness is not None:
            said.append(f"{name(witness)} is right, so dZ[{number}] is")
    elif place.startswith("layer"):
        said.append(f"dW[{number}] and db[{number}] do not come from one dZ[{number}]")
    elif " or d" in place:
        if len(leaves) == 1:
            said.append(f"nothing else of layer {number} was judged")
        else:
            said.append(f"{name(leaves[0])} has an error of its own")
        if " or above" in place:
            said.append(f"layer {number + 1} was not judged")
    else:
        above = layers[number].leaves if number < len(layers) else ()
        if right & set(above):
            said.append(f"dZ[{number + 1}] is right")
        elif " or " in place:
            said.append(f"layer {number + 1} was not judged")
        below = [n for n in range(1, number) if set(inheriting) & set(layers[n - 1].leaves)]
        following = [name(i) for i in leaves if follows.get(i, True)]
        if below:
            following.append(f"the layer{'s' if len(below) > 1 else ''} below ({', '.join(map(str, below))})")
        said.append(f"{' and '.join(following)} follow{'s' * (len(following) == 1)} from it")
        said += [f"{name(i)} has an error of its own" for i, follow in follows.items() if not follow]
    return "; ".join(said) + "."


def _explained(evidence, kind, number) -> str | None:
    """Which step of the layer is wrong."""
    if evidence.batch is not None:
        with tolerated(evidence.problem, "the diagnosis"):  # evidence that could not be had names nothing
            return explain(evidence, kind, number)
    return None
