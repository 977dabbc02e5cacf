"""Vectors of lanes: the explicit SIMD type in which the kernels are written.

A lane is one centre atom of one replica. Numba's loops vectorise only where LLVM can prove that arrays do not
overlap and where the innermost loop runs over lanes, so that sums over neighbours go through memory at every term.
Here the vector is a type of its own instead: sums over neighbours, symmetry functions and network inputs stay in
registers, a whole environment of `WIDTH` lanes stays in the first-level cache, and no lane's arithmetic depends on
the lanes beside it, so a trajectory is the same bit for bit in any block.

Arrays reach the kernels as plain pointers (`address`). Inside compiled functions: + - * / and unary minus between
vectors, or vectors and floats (products feeding sums may be fused); `load`, `store`, `gather`, `splat`, `broadcast`,
`square_root`, `where_greater`. Indices are trusted.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from hpcir.descriptors.kernel_cache import prepare_kernel_cache

prepare_kernel_cache()

import llvmlite.binding as llvm  # noqa: E402
from llvmlite import ir  # noqa: E402
from numba import njit, types  # noqa: E402
from numba.core.cgutils import get_or_insert_function  # noqa: E402
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature  # noqa: E402
from numba.extending import intrinsic as _intrinsic  # noqa: E402
from numba.extending import lower_builtin, models, register_model  # noqa: E402

# numba's own type of an intrinsic asks its callers for the typing context, which only the compiler passes.
intrinsic: Any = _intrinsic

# Options of every kernel: no Python inside, no zero-division checks, kept on disk, the interpreter lock released.
KERNEL: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
# The same for functions that only other kernels call: nothing is compiled for callers from Python, which saves half.
INNER: dict[str, Any] = {**KERNEL, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
INLINE: dict[str, Any] = {**INNER, "forceinline": True}

# Doubles in a vector register: 8 with AVX-512, else 4 (AVX2; two registers of NEON or SSE).
WIDTH = 8 if llvm.get_host_cpu_features().get("avx512f", False) else 4

_DOUBLE = ir.DoubleType()
_INT64 = ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_INT_VECTOR = ir.VectorType(_INT64, WIDTH)


class LaneVectorType(types.Type):
    """numba type of `WIDTH` doubles."""

    def __init__(self) -> None:
        super().__init__(name=f"LaneVector{WIDTH}")


lane_vector = LaneVectorType()


@register_model(LaneVectorType)
class _LaneVectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Any) -> None:
        super().__init__(manager, frontend_type, _VECTOR)


def _spread(builder: Any, value: Any) -> Any:
    """A vector with `value` in every lane (a vector is passed through)."""
    if value.type == _VECTOR:
        return value
    seed = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(seed, ir.Constant(_VECTOR, ir.Undefined), mask)


def _define_operator(function: Callable[..., Any], instruction: str) -> None:
    """Give + - * / their meaning for vectors. 'contract' lets a product feeding a sum become one fused operation;
    nothing else is relaxed: no reordering, and NaN stays NaN."""

    class Template(ConcreteTemplate):
        key = function
        cases = [  # noqa: RUF012
            signature(lane_vector, lane_vector, lane_vector),
            signature(lane_vector, lane_vector, types.float64),
            signature(lane_vector, types.float64, lane_vector),
        ]

    infer_global(function)(Template)

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        left, right = (_spread(builder, value) for value in arguments)
        return getattr(builder, instruction)(left, right, flags=("contract",))

    for case in Template.cases:
        lower_builtin(function, *case.args)(lower)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_function, _instruction)


@infer_global(operator.neg)
class _Negative(ConcreteTemplate):
    cases = [signature(lane_vector, lane_vector)]  # noqa: RUF012


@lower_builtin(operator.neg, LaneVectorType)
def _lower_negative(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0])


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    if isinstance(array_type, types.CPointer):
        return builder.gep(array, [index])
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def address(typingctx, array):  # type: ignore[no-untyped-def]
    """A pointer to the first element of a contiguous array, whose owner must keep it alive.

    Arrays passed from function to function cost seven arguments and two atomic operations each; inside the kernels,
    where a call does a hundred operations, that took three times as long as the arithmetic.
    """

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        return context.make_array(sig.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def offset(typingctx, pointer, count):  # type: ignore[no-untyped-def]
    """The pointer `count` elements further on."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.intp), generate


@intrinsic
def stand_alone(typingctx):  # type: ignore[no-untyped-def]
    """Called first in a large function: it is never copied into its callers, so it is compiled once."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def load(typingctx, array, index):  # type: ignore[no-untyped-def]
    """The vector array[index : index + WIDTH]."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        place = _address(context, builder, sig.args[0], arguments[0], arguments[1])
        return builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=8)

    return lane_vector(array, types.intp), generate


@intrinsic
def store(typingctx, array, index, value):  # type: ignore[no-untyped-def]
    """array[index : index + WIDTH] = value."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        place = _address(context, builder, sig.args[0], arguments[0], arguments[1])
        builder.store(arguments[2], builder.bitcast(place, _VECTOR.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lane_vector), generate


@intrinsic
def splat(typingctx, array, index):  # type: ignore[no-untyped-def]
    """A vector with array[index] in every lane."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        place = _address(context, builder, sig.args[0], arguments[0], arguments[1])
        return _spread(builder, builder.load(place))

    return lane_vector(array, types.intp), generate


@intrinsic
def broadcast(typingctx, value):  # type: ignore[no-untyped-def]
    """A vector with the float `value` in every lane."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        return _spread(builder, arguments[0])

    return lane_vector(types.float64), generate


@intrinsic
def gather(typingctx, array, places, index, shift):  # type: ignore[no-untyped-def]
    """The vector of array[places[index + lane] + shift] over the lanes; places holds int64."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        array, places, index, shift = arguments
        first = _address(context, builder, sig.args[1], places, index)
        result = ir.Constant(_VECTOR, ir.Undefined)
        for lane in range(WIDTH):
            place = builder.load(builder.gep(first, [ir.Constant(_INT64, lane)]))
            value = builder.load(_address(context, builder, sig.args[0], array, builder.add(place, shift)))
            result = builder.insert_element(result, value, ir.Constant(ir.IntType(32), lane))
        return result

    return lane_vector(array, places, types.intp, types.intp), generate


@intrinsic
def square_root(typingctx, value):  # type: ignore[no-untyped-def]
    """The square root of each lane."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        name = f"llvm.sqrt.v{WIDTH}f64"
        function = get_or_insert_function(builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), name)
        return builder.call(function, arguments)

    return lane_vector(lane_vector), generate


@intrinsic
def where_greater(typingctx, left, right, yes, no):  # type: ignore[no-untyped-def]
    """`yes` in the lanes where left > right, else `no`; a NaN in left or right counts as not greater."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        left, right, yes, no = (_spread(builder, value) for value in arguments)
        return builder.select(builder.fcmp_ordered(">", left, right), yes, no)

    return lane_vector(left, right, yes, no), generate


@intrinsic
def times_power_of_two(typingctx, value, shifted):  # type: ignore[no-untyped-def]
    """value * 2^n, where `shifted` is n + 1.5 * 2^52, whose lowest bits hold the integer n."""

    def generate(context, builder, sig, arguments):  # type: ignore[no-untyped-def]
        bits = builder.bitcast(arguments[0], _INT_VECTOR)
        power = builder.shl(builder.bitcast(arguments[1], _INT_VECTOR), ir.Constant(_INT_VECTOR, [52] * WIDTH))
        return builder.bitcast(builder.add(bits, power), _VECTOR)

    return lane_vector(lane_vector, lane_vector), generate


__all__ = [
    "INLINE",
    "INNER",
    "KERNEL",
    "WIDTH",
    "address",
    "broadcast",
    "gather",
    "lane_vector",
    "load",
    "njit",
    "offset",
    "splat",
    "square_root",
    "stand_alone",
    "store",
    "times_power_of_two",
    "where_greater",
]
