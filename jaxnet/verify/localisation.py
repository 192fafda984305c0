"""Where in the backward pass an error starts, in words; and what only inherits it.

The pattern of right and wrong leaves tells where (layers.py), their values whether it is so (starts.py), single
examples which step (chain.py). What none of these tells is left open: "dZ[3] or dW[3]".
"""

from jaxnet.verify.factors import COARSE, factors_of_units
from jaxnet.verify.layers import start_of_error
from jaxnet.verify.leaf_causes import shown_by_examples
from jaxnet.verify.noise import norm, resolution
from jaxnet.verify.starts import Start, explained, right, starts_of_error
from jaxnet.verify.tree import called
from jaxnet.verify.trouble import tolerated

RIGHT = "is right"


def leaf_by_leaf(evidence, wrong) -> str | None:
    """Each wrong leaf's own cause, where there is one; and if only some have one, which have none."""
    findings = [evidence.findings[i] for i in wrong]
    for i, f in zip(wrong, findings, strict=True):
        f.cause = f.cause or shown_by_examples(evidence, i)
    lines = [f"{called(f.path)}: {f.cause.text}." for f in findings if f.cause]
    silent = [called(f.path) for f in findings if not f.cause]
    if lines and silent:
        lines.append(f"No cause could be confirmed for {', '.join(silent[:4])}{', ...' if silent[4:] else ''}.")
    return " ".join(lines) or None


def layer_by_layer(evidence, wrong) -> tuple[str | None, str | None]:
    """The sentences of cause from the top layer down, the start, and which leaves inherit."""
    findings = evidence.findings
    starts = starts_of_error(evidence, wrong)
    if not starts:
        return leaf_by_leaf(evidence, wrong), None
    mixed = _mixed_examples(evidence, starts[0], wrong)
    if mixed is not None:
        return mixed
    lowest = starts[-1]
    below = {i for layer in evidence.layers[: lowest.number - 1] for i in layer.leaves if i in wrong}
    inheriting = {i for i in below if lowest.kind == "dZ" and lowest.follows.get(i, True)}
    for i in inheriting:
        findings[i].cause = None
        proved = f"inherits the error of dZ[{lowest.number}]"
        reaches = "reaches" if lowest.confirmed else "would reach"
        findings[i].note = proved if i in lowest.follows else f"below dZ[{lowest.number}], whose error {reaches} it"
    sentences, places = zip(*(_at_start(evidence, start, wrong) for start in starts), strict=True)
    alone = [i for i in wrong if i not in inheriting and not any(i in start.leaves for start in starts)]
    return " ".join(filter(None, [*sentences, leaf_by_leaf(evidence, alone)])) or None, places[0]


def top_of_all(evidence, wrong) -> str | None:
    """The name of the place where an error that is in all leaves starts."""
    starts = start_of_error(evidence.layers, set(wrong), right(evidence))
    return _place(evidence, Start(*starts[0])) if starts else None


def _mixed_examples(evidence, start, wrong) -> tuple[str, str] | None:
    """A sum over examples does not see their order: db[l] is right and dZ[l] is not, nor is anything below it."""
    number = start.number
    below = {i for layer in evidence.layers[: number - 1] for i in layer.leaves}
    if start.kind != "dW" or evidence.examples is None or below & right(evidence):
        return None
    with tolerated(evidence.problem, "the diagnosis"):
        for k in (0, evidence.examples.m - 1):
            g, r = evidence.example(k)
            for i in wrong:
                if g[i] is None or norm(r[i]) == 0.0 or not evidence.equal(g[i], r[i], evidence.findings[i]):
                    return None
        place = f"dZ[{number}]" if below else f"dW[{number}]"
        return (
            f"The error starts at {place}: examples are in another order there, or mixed up, for on copies of one "
            f"example every leaf {_faultless(evidence, max(wrong, key=lambda i: _resolution(evidence, i)))}."
        ), place
    return None


def _at_start(evidence, start, wrong) -> tuple[str, str | None]:
    """What to say of one place where an error starts, and what it is called."""
    findings, place, kind, because = evidence.findings, _place(evidence, start), start.kind, None

    def own() -> dict:
        return {i: findings[i].cause for i in start.leaves if findings[i].cause}

    def joined() -> str:
        said = [f"{evidence.name(i)} ({findings[i].path}): {cause.text}" for i, cause in own().items()]
        return f"{'; '.join(said)}." if said else ""

    if not all(findings[i].comparable for i in start.leaves):
        return joined(), place
    if kind == "dZ" or len(own()) < len(start.leaves):
        for step in dict.fromkeys((kind, *(evidence.name(i)[:2] for i in _doubtful(start)))):
            if because is None:
                because, kind = explained(evidence, step, start.number), step
        if because is None and start.kind == "dZ" and len(start.leaves) == 2:
            because, kind = factors_of_units(evidence, start.number), "dZ"
        if because is None:
            for i in start.leaves:
                findings[i].cause = findings[i].cause or shown_by_examples(evidence, i)
    if because:  # the step is known, and with it the place
        start = Start(kind, start.number, start.leaves, start.follows | dict.fromkeys(start.showing, True))
        place = f"{kind}[{start.number}]"
    if because or not own().keys() >= set(start.showing):  # half a name for one dZ is no name
        for i in start.showing:
            findings[i].cause = None
    if not start.confirmed and len({cause.kind for i, cause in own().items() if i in start.showing}) > 1:
        return joined(), None  # two leaves of one layer, two different faults: not one dZ
    return " ".join(filter(None, [_where(evidence, start, place, wrong), because, joined()])), place


def _doubtful(start) -> list[int]:
    """The leaf of which it is open whether it shows a wrong dZ, or is wrong by itself."""
    return start.showing if len(start.showing) == 1 and not start.confirmed else []


def _place(evidence, start) -> str:
    """What a start is called, with all else that the judged leaves allow."""
    if start.kind == "layer" and len(start.leaves) == 1:
        return evidence.name(start.leaves[0])
    if start.kind != "dZ":
        return f"layer {start.number}" if start.kind == "layer" else f"{start.kind}[{start.number}]"
    also = " or above" if _above(evidence, start) is False else ""
    return f"dZ[{start.number}]{also}" + "".join(f" or {evidence.name(i)}" for i in _doubtful(start))


def _above(evidence, start) -> bool | None:
    """Whether the layer above shows that its dZ is right; None if there is no layer above."""
    layers = evidence.layers
    return bool(right(evidence) & set(layers[start.number].leaves)) if start.number < len(layers) else None


def _where(evidence, start, place, wrong) -> str:
    """The error starts at ...; above is right; below follows."""
    layers, name, number = evidence.layers, evidence.name, start.number
    said = [f"The error starts at {place}"]
    lower = [n for n in range(1, number) if set(wrong) & set(layers[n - 1].leaves)]
    if start.kind in ("dW", "db"):
        witness = next((i for layer in layers[number - 1 :: -1] for i in layer.leaves if i in right(evidence)), None)
        if witness is not None:
            how = _faultless(evidence, witness)
            said.append(f"{name(witness)} {how}, so dZ[{number}] {'is' if how == RIGHT else 'shows none'}")
    elif start.kind == "layer":
        if len(start.leaves) > 1:
            said.append(f"{_listed([*map(name, start.leaves)])} do not come from one dZ[{number}]")
        said += [f"{_below(lower)} {'are' if lower[1:] else 'is'} wrong too"] if lower else []
    else:
        said += _around(evidence, start, wrong)
    return "; ".join(said) + "."


def _around(evidence, start, wrong) -> list[str]:
    """What a wrong dZ says of the layer above, of its own leaves and of the layers below."""
    name, number, above, follows = evidence.name, start.number, _above(evidence, start), start.follows
    layers = evidence.layers
    said, reached, followed = [], [], []
    if above:
        witness = min(right(evidence) & set(layers[number].leaves), key=lambda i: _resolution(evidence, i))
        said.append(f"dZ[{number + 1}] {_faultless(evidence, witness)}")
    elif above is False and not set(wrong) & set(layers[number].leaves):
        said.append(f"layer {number + 1} was not judged")
    if not start.confirmed:
        said.append("or each leaf has an error of its own" if len(start.showing) > 1 else "")
    for n, layer in enumerate(layers[: number - 1], start=1):
        told = [follows.get(i) for i in layer.leaves if i in wrong]
        followed += [n] if True in told else []
        reached += [n] if told and not {True, False} & set(told) else []
    following = [*map(name, filter(follows.get, start.leaves)), *([_below(followed)] if followed else [])]
    if following:
        said.append(f"{_listed(following)} follow{'s' * (len(following) == 1 and not followed[1:])} from it")
    if reached:
        said.append(f"{_below(reached)} {'are' if reached[1:] else 'is'} wrong too")
    if _doubtful(start) and len(start.leaves) == 1:
        said.append(f"nothing else of layer {number} was judged")
    own = [name(i) for layer in reversed(layers) for i in layer.leaves if follows.get(i) is False]
    if own:
        said.append(f"{_listed(own)} {'have errors of their' if own[1:] else 'has an error of its'} own")
    return list(filter(None, said))


def _faultless(evidence, i) -> str:
    """What to say of a leaf that passes: an error below its resolution would not have been seen."""
    return RIGHT if _resolution(evidence, i) <= COARSE else "shows no error"


def _resolution(evidence, i) -> float:
    f = evidence.findings[i]
    return resolution(f.r, f.noise)


def _listed(names) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _below(numbers) -> str:
    return f"the layer{'s' if numbers[1:] else ''} below ({', '.join(map(str, numbers))})"
