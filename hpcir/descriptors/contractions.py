"""Body-ordered symmetry functions: full contractions of moments of the neighbour density, and their terms.

Moments of a channel c, which mixes neighbour elements e and angular shells s (Behler's g(r) of `definition`):
    A^c_alpha = sum_(e,s) w^c_es M^(e,s)_alpha,   M^(e,s)_alpha = sum_{j in e} g_s(r_ij) u_ij^alpha,
    u^alpha = x^a y^b z^c for alpha = (a, b, c).
The moments of degree l are the components of a symmetric tensor of rank l. A contraction sums over the indices that its
tensors share; being a scalar, it is the same in every frame. Two tensors give functions of three bodies, three of four,
four of five (atomic cluster expansion: Drautz, Phys. Rev. B 99, 014104, 2019; moment tensors: Shapeev, Multiscale
Model. Simul. 14, 1153, 2016). Terms in which two indices are the same neighbour are kept: they are functions of fewer
bodies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from hpcir.arrays import FloatArray, IntArray

# Tensors of a contraction, at most.
MAX_TENSORS = 4
# Second half of the key of the random streams of channels' weights.
CHANNEL_STREAM = 0x6368616E6E656C73


@dataclass(frozen=True)
class Contraction:
    """One scalar: `channels` of its two to four tensors, and `shared`, the indices that each two of them share.

    shared is in the order of itertools.combinations: (01), (01, 02, 12), or (01, 02, 03, 12, 13, 23). The rank of a
    tensor is the sum over its pairs: channels (a, a, a) with shared (1, 0, 1) is V.Q.V.
    """

    channels: tuple[int, ...]
    shared: tuple[int, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each tensor."""
        ranks = [0] * len(self.channels)
        for (a, b), count in zip(combinations(range(len(self.channels)), 2), self.shared, strict=True):
            ranks[a] += count
            ranks[b] += count
        return tuple(ranks)

    def terms(self, powers: list[tuple[int, int, int]]) -> list[tuple[float, tuple[int, ...]]]:
        """The contraction as a sum of products: (coefficient, moment of each tensor), moments as indices into `powers`.

        Products that differ in nothing but the order of equal tensors of one channel are added up.
        """
        place = {power: n for n, power in enumerate(powers)}
        pairs = list(combinations(range(len(self.channels)), 2))
        ends = [pair for pair, count in zip(pairs, self.shared, strict=True) for _ in range(count)]
        found: Counter[tuple[int, ...]] = Counter()
        for axes in product(range(3), repeat=len(ends)):
            moments = [[0, 0, 0] for _ in self.channels]
            for (a, b), axis in zip(ends, axes, strict=True):
                moments[a][axis] += 1
                moments[b][axis] += 1
            found[self._ordered([place[(m[0], m[1], m[2])] for m in moments])] += 1
        return [(float(count), indices) for indices, count in sorted(found.items())]

    def _ordered(self, indices: list[int]) -> tuple[int, ...]:
        """Moments of tensors that have one channel and one rank, in ascending order."""
        kinds = list(zip(self.channels, self.ranks, strict=True))
        result = list(indices)
        for kind in set(kinds):
            same = [n for n, own in enumerate(kinds) if own == kind]
            for n, value in zip(same, sorted(indices[n] for n in same), strict=True):
                result[n] = value
        return tuple(result)


@dataclass(frozen=True)
class ContractionTables:
    """Contractions as the compiled functions read them.

    mixing (C, E, S): weights of the channels. rows (F, 2 + MAX_TENSORS): first term, end of the terms, channel of each
    tensor (-1: none). moments (T, MAX_TENSORS): moment of each tensor in a term (-1: none); coefficients (T,).
    """

    mixing: FloatArray
    rows: IntArray
    moments: IntArray
    coefficients: FloatArray


def monomial_powers(degree: int) -> list[tuple[int, int, int]]:
    """Exponents (a, b, c) with a + b + c <= degree, degree by degree: the order of the moments."""
    return [
        (a, b, total - a - b)
        for total in range(degree + 1)
        for a in range(total, -1, -1)
        for b in range(total - a, -1, -1)
    ]


def contraction_tables(
    channels: tuple[tuple[tuple[float, ...], ...], ...], contractions: tuple[Contraction, ...], shape: tuple[int, int]
) -> ContractionTables:
    """The tables of `contractions` on `channels`; shape: numbers of elements and shells."""
    powers = monomial_powers(max((max(c.ranks) for c in contractions), default=0))
    rows = np.full((len(contractions), 2 + MAX_TENSORS), -1, np.int64)
    known: dict[tuple[bool, tuple[int, ...], tuple[int, ...]], tuple[int, int]] = {}
    moments: list[tuple[int, ...]] = []
    coefficients: list[float] = []
    for row, contraction in zip(rows, contractions, strict=True):
        pattern = tuple(contraction.channels.index(channel) for channel in contraction.channels)
        key = (True, pattern, contraction.shared)
        if key not in known:
            terms = contraction.terms(powers)
            known[key] = len(moments), len(moments) + len(terms)
            moments += [(*indices, *(-1,) * (MAX_TENSORS - len(indices))) for _, indices in terms]
            coefficients += [coefficient for coefficient, _ in terms]
        row[:2] = known[key]
        row[2 : 2 + len(contraction.channels)] = contraction.channels
    return ContractionTables(
        np.array(channels, np.float64).reshape(len(channels), *shape),
        rows,
        np.array(moments, np.int64).reshape(-1, MAX_TENSORS),
        np.array(coefficients, np.float64),
    )


# Indices that the three tensors of a four-body function share, (01, 02, 12): all with ranks of up to 3.
TRIPLE_SHARED = ((1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 1, 1))


def mixed_channels(count: int, elements: int, shells: int) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """`count` mixtures [channel][element][shell] of unit length with normally distributed weights.

    Products of equal random mixtures are a sketch of all products of all elements and shells (tensor-reduced atomic
    density: Darby et al., Phys. Rev. Lett. 131, 028001, 2023), so that their number need not grow with the elements.
    The weights come from a stream of their own for each channel: more channels add to fewer.
    """
    channels = []
    for number in range(count):
        stream = np.random.Generator(np.random.Philox(key=[number, CHANNEL_STREAM]))
        weights = stream.standard_normal((elements, shells))
        weights /= np.linalg.norm(weights)
        channels.append(tuple(tuple(map(float, row)) for row in weights))
    return tuple(channels)


def automatic_contractions(channels: int, degree: int) -> tuple[Contraction, ...]:
    """Products of every two of the first half of the channels for each degree, and all contractions of three equal
    tensors of each channel, up to moments of `degree`."""
    half = -(-channels // 2)
    pairs = [Contraction((a, b), (rank,)) for a in range(half) for b in range(a, half) for rank in range(1, degree + 1)]
    triples = [Contraction((c, c, c), shared) for c in range(channels) for shared in TRIPLE_SHARED]
    return tuple(c for c in [*pairs, *triples] if max(c.ranks) <= degree)
