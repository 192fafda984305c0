"""Why is a gradient wrong, and where does the error start? From the tests' answers to a diagnosis, and its sentences.

First what the run itself has shown, then one cause for all leaves, then what each leaf shows by itself (causes.py),
another order of the leaves, and for layered parameters where in the backward pass the error starts (layers.py), which
step is wrong there (backward.py) and which leaves only inherit it. What none of these tells is left open: "dZ[3] or
dW[3]", or no cause at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from jaxnet.verify.diagnose.causes import EXAMPLES, FORMAT, JOINT, NUMBERS, cause_of
from jaxnet.verify.diagnose.evidence import Case, Evidence, Slopes
from jaxnet.verify.diagnose.factors import COARSE, factors_of_units
from jaxnet.verify.diagnose.layers import (
    Start,
    of_finished_leaf,
    right_leaves,
    start_of_error,
    starts_of_error,
    step_at,
)
from jaxnet.verify.errors import tolerated
from jaxnet.verify.evidence.noise import resolution
from jaxnet.verify.judge.cause import FACTORS, FINISHED, Cause, Kind
from jaxnet.verify.problem.trees import called
from jaxnet.verify.sizes import norm


class Inherited(Enum):
    """How a wrong leaf depends on a wrong dZ above it; the value is the sentence."""

    PROVED = "inherits the error of dZ[{}]"
    REACHED = "below dZ[{}], whose error reaches it"
    WITHIN_REACH = "below dZ[{}], whose error would reach it"


@dataclass(frozen=True)
class Diagnosis:
    """Why a gradient is wrong and where the error starts; None, and no entry, where nothing could be confirmed.

    causes  of the wrong leaves, by their place
    notes   which of them inherit an error that starts elsewhere
    """

    cause: str | None = None
    starts_at: str | None = None
    causes: Mapping[int, Cause] = field(default_factory=dict)
    notes: Mapping[int, Cause] = field(default_factory=dict)


def diagnose(problem, manual, leaves, rng) -> Diagnosis:
    """The diagnosis of judged leaves, some of which are wrong."""
    evidence = (Evidence if all(f.autodiff for f in leaves) else Slopes)(problem, manual, leaves, rng)
    wrong = [i for i, f in enumerate(leaves) if f.wrong]
    causes = {i: leaves[i].cause for i in wrong if leaves[i].cause is not None}
    malformed = _found(evidence, wrong, FORMAT)
    common = _common_kind(causes, wrong) if not malformed else None
    if common is not None:
        return Diagnosis(f"{common.text}.", None, causes)
    causes |= malformed
    judged = tuple(i for i, f in enumerate(leaves) if f.verdict in ("PASS", "FAIL") and (f.r is None or f.r_norm > 0))
    together = cause_of(Case(evidence, judged), JOINT) if len(judged) > 1 and not causes else None
    if together is not None:
        anywhere = together.kind in FINISHED or together.kind is Kind.GLOBAL_NORM or not evidence.layers
        return Diagnosis(f"Every leaf: {together.text}.", None if anywhere else _top(evidence, wrong), causes)
    causes |= _found(evidence, [i for i in wrong if i not in causes], NUMBERS)
    swapped = _another_order(evidence, wrong)
    if swapped is not None:
        return Diagnosis(swapped, None, causes)
    same = {causes.get(i) for i in wrong}
    if len(judged) == len(wrong) > 1 and len(same) == 1 and of_finished_leaf(causes.get(wrong[0])):
        return Diagnosis(f"Every leaf: {causes[wrong[0]].text}.", None, causes)
    return _layer_by_layer(evidence, wrong, causes) if evidence.layers else _leaf_by_leaf(evidence, wrong, causes)


def _found(evidence, leaves, rows) -> dict[int, Cause]:
    """The causes that some rows of the table name, by leaf."""
    found = {i: cause_of(Case(evidence, (i,)), rows) for i in leaves}
    return {i: cause for i, cause in found.items() if cause is not None}


def _common_kind(causes: dict[int, Cause], wrong: list[int]) -> Cause | None:
    """One cause that the run itself has shown of all wrong leaves (a variant, a second call)."""
    if set(causes) != set(wrong) or len({cause.kind for cause in causes.values()}) != 1:
        return None
    return min(causes.values(), key=lambda cause: cause.text)


def _another_order(evidence, wrong) -> str | None:
    """The leaves are right and in another order."""
    leaves, source = evidence.leaves, {}
    for i in wrong:
        f = leaves[i]
        for j, other in enumerate(leaves):
            if f.comparable and j != i and other.r is not None and evidence.equal(f.g, other.r, other):
                source[i] = j
    if len(source) < 2 or set(source) != set(wrong) or set(source.values()) != set(wrong):
        return None
    listed = [f"{called(leaves[i].path)} holds {called(leaves[j].path)}'s" for i, j in list(source.items())[:4]]
    return f"The leaves are swapped, in another order: {', '.join(listed)}."


# ---- leaf by leaf ----------------------------------------------------------------------------------------------------
def _leaf_by_leaf(evidence, wrong, causes: dict[int, Cause]) -> Diagnosis:
    """Each wrong leaf's own cause, where there is one; and if only some have one, which have none."""
    causes = causes | _found(evidence, [i for i in wrong if i not in causes], EXAMPLES)
    paths = {i: called(evidence.leaves[i].path) for i in wrong}
    lines = [f"{paths[i]}: {causes[i].text}." for i in wrong if i in causes]
    silent = [paths[i] for i in wrong if i not in causes]
    if lines and silent:
        lines.append(f"No cause could be confirmed for {', '.join(silent[:4])}{', ...' if silent[4:] else ''}.")
    return Diagnosis(" ".join(lines) or None, None, causes)


# ---- layer by layer --------------------------------------------------------------------------------------------------
def _layer_by_layer(evidence, wrong, causes: dict[int, Cause]) -> Diagnosis:
    """The sentences of cause from the top layer down, the start, and which leaves inherit."""
    starts = starts_of_error(evidence, wrong, causes)
    if not starts:
        return _leaf_by_leaf(evidence, wrong, causes)
    mixed = _mixed_examples(evidence, starts[0], wrong)
    if mixed is not None:
        return replace(mixed, causes=causes)
    notes = _inherited(evidence, starts[-1], wrong)
    causes = {i: cause for i, cause in causes.items() if i not in notes}
    sentences, places = [], []
    for start in starts:
        sentence, place, causes = _at_start(evidence, start, wrong, causes)
        sentences.append(sentence)
        places.append(place)
    alone = [i for i in wrong if i not in notes and not any(i in start.leaves for start in starts)]
    rest = _leaf_by_leaf(evidence, alone, {i: cause for i, cause in causes.items() if i in alone})
    cause = " ".join(filter(None, [*sentences, rest.cause])) or None
    return Diagnosis(cause, places[0], {**causes, **rest.causes}, notes)


def _inherited(evidence, lowest: Start, wrong) -> dict[int, Cause]:
    """The wrong leaves below a wrong dZ, as far as they have no fault of their own."""
    if lowest.kind != "dZ":
        return {}
    below = [i for layer in evidence.layers[: lowest.number - 1] for i in layer.leaves if i in wrong]
    unknown = Inherited.REACHED if lowest.confirmed else Inherited.WITHIN_REACH
    return {
        i: Cause(Inherited.PROVED if i in lowest.follows else unknown, (lowest.number,))
        for i in below
        if lowest.follows.get(i, True)
    }


def _top(evidence, wrong) -> str | None:
    """The name of the place where an error that is in all leaves starts."""
    starts = start_of_error(evidence.layers, set(wrong), right_leaves(evidence))
    return _place(evidence, Start(*starts[0])) if starts else None


def _mixed_examples(evidence, start: Start, wrong) -> Diagnosis | None:
    """A sum over examples does not see their order: db[l] is right and dZ[l] is not, nor is anything below it."""
    number, batch = start.number, evidence.examples
    below = {i for layer in evidence.layers[: number - 1] for i in layer.leaves}
    if start.kind != "dW" or batch is None or below & right_leaves(evidence):
        return None
    with tolerated(evidence.problem.journal, "the diagnosis"):
        for k in (0, batch.m - 1):
            g, r = evidence.both_at(batch.alone(k))
            for i in wrong:
                if g[i] is None or norm(r[i]) == 0.0 or not evidence.equal(g[i], r[i], evidence.leaves[i]):
                    return None
        place = f"dZ[{number}]" if below else f"dW[{number}]"
        text = (
            f"The error starts at {place}: examples are in another order there, or mixed up, for on copies of one "
            f"example every leaf {_faultless(evidence, max(wrong, key=lambda i: _resolution(evidence, i)))}."
        )
        return Diagnosis(text, place)
    return None


def _at_start(evidence, start: Start, wrong, causes: dict[int, Cause]) -> tuple[str, str | None, dict[int, Cause]]:
    """What to say of one place where an error starts, what it is called, and the causes that its leaves keep."""
    place, kind, step = _place(evidence, start), start.kind, None
    if not all(evidence.leaves[i].comparable for i in start.leaves):
        return _own_causes(evidence, start, causes), place, causes
    if start.kind == "dZ" or any(i not in causes for i in start.leaves):
        W = evidence.layers[start.number - 1].W
        for kind in dict.fromkeys((start.kind, *("dW" if i == W else "db" for i in start.doubtful))):
            step = step_at(evidence, kind, start.number)
            if step is not None:
                break
        if step is None and start.kind == "dZ" and len(start.leaves) == 2:
            step, kind = factors_of_units(evidence, start.number), "dZ"
        if step is None:
            causes = causes | _found(evidence, [i for i in start.leaves if i not in causes], EXAMPLES)
    if step is not None:  # the step is known, and with it the place
        start = replace(start, kind=kind, follows=start.follows | dict.fromkeys(start.showing, True))
        place = f"{kind}[{start.number}]"
    if step is not None or any(i not in causes for i in start.showing):  # half a name for one dZ is no name
        causes = {i: cause for i, cause in causes.items() if i not in start.showing}
    own = _own_causes(evidence, start, causes)
    faults = {_fault(causes[i]) for i in start.showing if i in causes}
    if not start.confirmed and len(faults) > 1:
        return own, None, causes  # two leaves of one layer, two different faults: not one dZ
    return " ".join(filter(None, [_where(evidence, start, place, wrong), step and step.text, own])), place, causes


def _fault(cause: Cause) -> tuple:
    """What two leaves have in common if one fault explains both: the kind, and of a factor its value."""
    return (cause.kind, cause.numbers) if cause.kind in FACTORS else (cause.kind,)


def _own_causes(evidence, start: Start, causes: dict[int, Cause]) -> str:
    """The causes of a start's leaves; one that several share is said once."""
    names: dict[str, list[str]] = {}
    for i in start.leaves:
        if i in causes:
            names.setdefault(causes[i].text, []).append(f"{evidence.name(i)} ({evidence.leaves[i].path})")
    return "; ".join(f"{_listed(where)}: {text}" for text, where in names.items()) + "." * bool(names)


def _place(evidence, start: Start) -> str:
    """What a start is called, with all else that the judged leaves allow."""
    if start.kind == "layer" and len(start.leaves) == 1:
        return evidence.name(start.leaves[0])
    if start.kind != "dZ":
        return f"layer {start.number}" if start.kind == "layer" else f"{start.kind}[{start.number}]"
    also = " or above" if _is_right_above(evidence, start) is False else ""
    return f"dZ[{start.number}]{also}" + "".join(f" or {evidence.name(i)}" for i in start.doubtful)


def _is_right_above(evidence, start: Start) -> bool | None:
    """Whether the layer above shows that its dZ is right; None if there is no layer above."""
    layers = evidence.layers
    return bool(right_leaves(evidence) & set(layers[start.number].leaves)) if start.number < len(layers) else None


def _where(evidence, start: Start, place: str, wrong) -> str:
    """The error starts at ...; above is right; below follows."""
    layers, name, number = evidence.layers, evidence.name, start.number
    parts = [f"The error starts at {place}"]
    lower = [n for n in range(1, number) if set(wrong) & set(layers[n - 1].leaves)]
    if start.kind in ("dW", "db"):
        right = right_leaves(evidence)
        witness = next((i for layer in layers[number - 1 :: -1] for i in layer.leaves if i in right), None)
        if witness is not None:
            so = "is" if _is_certain(evidence, witness) else "shows none"
            parts.append(f"{name(witness)} {_faultless(evidence, witness)}, so dZ[{number}] {so}")
    elif start.kind == "layer":
        if len(start.leaves) > 1:
            parts.append(f"{_listed([*map(name, start.leaves)])} do not come from one dZ[{number}]")
        parts += [f"{_below(lower)} {'are' if lower[1:] else 'is'} wrong too"] if lower else []
    else:
        parts += _around(evidence, start, wrong)
    return "; ".join(parts) + "."


def _around(evidence, start: Start, wrong) -> list[str]:
    """What a wrong dZ says of the layer above, of its own leaves and of the layers below."""
    layers, name, number, follows = evidence.layers, evidence.name, start.number, start.follows
    above, parts = _is_right_above(evidence, start), []
    if above:
        witness = min(right_leaves(evidence) & set(layers[number].leaves), key=lambda i: _resolution(evidence, i))
        parts.append(f"dZ[{number + 1}] {_faultless(evidence, witness)}")
    elif above is False and not set(wrong) & set(layers[number].leaves):
        parts.append(f"layer {number + 1} was not judged")
    if not start.confirmed and len(start.showing) > 1:
        parts.append("or each leaf has an error of its own")
    below = {n: [follows.get(i) for i in layers[n - 1].leaves if i in wrong] for n in range(1, number)}
    followed = [n for n, known in below.items() if True in known]
    reached = [n for n, known in below.items() if known and not {True, False} & set(known)]
    following = [*map(name, filter(follows.get, start.leaves)), *([_below(followed)] if followed else [])]
    if following:
        parts.append(f"{_listed(following)} follow{'s' * (len(following) == 1 and not followed[1:])} from it")
    if reached:
        parts.append(f"{_below(reached)} {'are' if reached[1:] else 'is'} wrong too")
    if start.doubtful and len(start.leaves) == 1:
        parts.append(f"nothing else of layer {number} was judged")
    own = [name(i) for layer in reversed(layers) for i in layer.leaves if follows.get(i) is False]
    if own:
        parts.append(f"{_listed(own)} {'have errors of their' if own[1:] else 'has an error of its'} own")
    return parts


def _faultless(evidence, i: int) -> str:
    """What to say of a leaf that passes: an error below its resolution would not have been seen."""
    return "is right" if _is_certain(evidence, i) else "shows no error"


def _is_certain(evidence, i: int) -> bool:
    return bool(_resolution(evidence, i) <= COARSE)


def _resolution(evidence, i: int) -> float:
    f = evidence.leaves[i]
    return resolution(f.r, f.noise)


def _listed(names) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _below(numbers) -> str:
    return f"the layer{'s' if numbers[1:] else ''} below ({', '.join(map(str, numbers))})"
