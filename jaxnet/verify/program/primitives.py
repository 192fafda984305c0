"""The one table of primitives: what each does to numbers, as far as the ways of reading a program treat it apart."""

from collections.abc import Iterable
from typing import NamedTuple


class Treatment(NamedTuple):
    """What a primitive does to numbers; one that is not in the table does nothing of all this.

    moves     it puts them elsewhere and computes none
    in_place  it leaves every one of them where it is
    exact     its results are not rounded, or on somebody's demand (a cast)
    analytic  it is the same formula on complex numbers
    bits      it looks at the bits or the width of numbers, or draws some by their width
    hidden    what it does is no program of ordinary operations
    structure it runs programs: as a "call", a "scan", ... (see jaxprs.STRUCTURES)
    compares  "operands" with each other, or the "entries" of one; at a tie its derivative has a kink
    operand   the operand that is moved off a tie; None for the first that is not a literal
    decides   what it gives is no number of an operand: a boolean, a place, a sign
    """

    moves: bool = False
    in_place: bool = False
    exact: bool = False
    analytic: bool = False
    bits: bool = False
    hidden: bool = False
    structure: str = ""
    compares: str = ""
    operand: int | None = None
    decides: bool = False


_ROWS = {
    """reshape transpose broadcast_in_dim squeeze slice dynamic_slice dynamic_update_slice gather concatenate pad
    rev expand_dims optimization_barrier pvary""": Treatment(moves=True, exact=True, analytic=True),
    "copy copy_p": Treatment(moves=True, in_place=True, exact=True, analytic=True),
    "convert_element_type": Treatment(in_place=True, exact=True),
    "reduce_precision sharding_constraint": Treatment(in_place=True),
    "neg": Treatment(exact=True, analytic=True),
    """add add_any sub mul div dot_general reduce_sum exp exp2 expm1 log log1p sin cos tan tanh sinh cosh sqrt rsqrt
    logistic integer_pow square pow cumsum""": Treatment(analytic=True),
    "select_n stop_gradient iota floor ceil round": Treatment(exact=True),
    "max min": Treatment(exact=True, compares="operands"),
    "abs": Treatment(exact=True, compares="operands", operand=0),
    "clamp": Treatment(exact=True, compares="operands", operand=1),
    "sign": Treatment(exact=True, compares="operands", operand=0, decides=True),
    "gt ge lt le": Treatment(exact=True, compares="operands", decides=True),
    "argmax argmin": Treatment(exact=True, compares="entries", operand=0, decides=True),
    """reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin sort
    top_k""": Treatment(exact=True, compares="entries", operand=0),
    "scatter-max scatter-min scatter_max scatter_min": Treatment(exact=True, compares="entries", operand=2),
    "bitcast_convert_type nextafter random_gamma random_bits rng_uniform": Treatment(bits=True),
    """pallas_call pure_callback io_callback ffi_call custom_partitioning tpu_custom_call
    triton_kernel_call""": Treatment(hidden=True),
    "jit pjit closed_call core_call eval_jaxpr": Treatment(structure="call"),
    "remat2 checkpoint": Treatment(structure="remat"),
    "scan": Treatment(structure="scan"),
    "while": Treatment(structure="while"),
    "cond": Treatment(structure="cond"),
    "shard_map": Treatment(structure="shard_map"),
}
CONTROL = ("scan", "while", "cond")  # loops and branches
_TABLE = {name: treatment for names, treatment in _ROWS.items() for name in names.split()}
_NOTHING = Treatment()


def treatment(equation) -> Treatment:
    """What the primitive of an equation does."""
    return _TABLE.get(equation.primitive.name, _NOTHING)


def within(around: Iterable, *structures: str) -> bool:
    """Whether any of the equations around one is such a structure."""
    return any(treatment(equation).structure in structures for equation in around)
