"""Definition of a set of symmetry functions: parameters, order of the features, automatic choice.

Radial, per neighbour element e (Behler 2011, eq. 6):
    G2 = sum_{j in e} exp(-eta (r_ij - r_s)^2) fc(r_ij)
Angular, per unordered neighbour element pair (a, b), the form without r_jk (eq. 9), with a shift:
    G9 = 2^(1-zeta) sum_{pairs j in a, k in b} (1 + lambda cos theta_jik)^zeta g(r_ij) g(r_ik),
    g(r) = exp(-eta (r - r_s)^2) fc(r), each pair of neighbours counted once, j != k.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from hpcir.deck.sections import ModelSettings
from hpcir.descriptors.contractions import Contraction, automatic_contractions, mixed_channels

CUTOFF_FUNCTIONS = ("polynomial", "cosine", "tanh3")


@dataclass(frozen=True)
class SymmetryFunctionSet:
    """One set of symmetry functions, the same for every centre; lengths in bohr.

    elements: sorted atomic numbers of the neighbours. radial: (eta, shift) of each G2 function. shells: (eta,
    shift) of the radial part g(r) of the angular functions. angles: (zeta, lambda) combined with every shell;
    zeta is a positive integer, lambda +1 or -1. channels: [channel][element][shell] weights of mixtures of the shells'
    densities, whose moments the contractions multiply (see `contractions`).

    Feature order of a centre: for each element e, for each radial function; then for each element pair (a <= b
    in `elements` order, combinations_with_replacement), for each shell, for each angle; then the contractions.
    """

    elements: tuple[int, ...]
    cutoff: float
    radial: tuple[tuple[float, float], ...]
    shells: tuple[tuple[float, float], ...]
    angles: tuple[tuple[int, int], ...]
    cutoff_function: str = "polynomial"
    channels: tuple[tuple[tuple[float, ...], ...], ...] = ()
    contractions: tuple[Contraction, ...] = ()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Unordered neighbour element pairs as indices into `elements`, in feature order."""
        return list(combinations_with_replacement(range(len(self.elements)), 2))

    @property
    def n_radial(self) -> int:
        return len(self.elements) * len(self.radial)

    @property
    def n_behler(self) -> int:
        """Functions of Behler's two kinds."""
        return self.n_radial + len(self.pairs) * len(self.shells) * len(self.angles)

    @property
    def n_features(self) -> int:
        return self.n_behler + len(self.contractions)

    @property
    def zeta_max(self) -> int:
        return max((zeta for zeta, _ in self.angles), default=0)

    @property
    def most_rank(self) -> int:
        """Largest rank of a moment in a contraction, 0 without any."""
        return max((max(contraction.ranks) for contraction in self.contractions), default=0)

    @property
    def angular(self) -> bool:
        """True where any function reads the angular shells."""
        return bool(self.angles or self.contractions)

    def describe(self, feature: int) -> str:
        """A feature in words, with lengths in angstrom, such as 'G2 to O, eta 4.00 A^-2, shift 1.20 A'."""
        from ase.data import chemical_symbols

        from hpcir.units import ANGSTROM

        names = [chemical_symbols[z] for z in self.elements]
        if feature < self.n_radial:
            element, k = divmod(feature, len(self.radial))
            eta, shift = self.radial[k]
            return f"G2 to {names[element]}, eta {eta * ANGSTROM**2:.2f} A^-2, shift {shift / ANGSTROM:.2f} A"
        if feature >= self.n_behler:
            return self._describe_contraction(self.contractions[feature - self.n_behler])
        pair, rest = divmod(feature - self.n_radial, len(self.shells) * len(self.angles))
        shell, angle = divmod(rest, len(self.angles))
        a, b = self.pairs[pair]
        (eta, shift), (zeta, lam) = self.shells[shell], self.angles[angle]
        return (
            f"G9 to {names[a]} and {names[b]}, eta {eta * ANGSTROM**2:.2f} A^-2, shift {shift / ANGSTROM:.2f} A, "
            f"zeta {zeta}, lambda {lam:+d}"
        )

    def _describe_contraction(self, contraction: Contraction) -> str:
        """Such as 'contraction of channels C 0, C 1 with ranks 2, 2'; a channel of one element and shell has its name,
        others their number."""
        from ase.data import chemical_symbols

        names = []
        for number in contraction.channels:
            found = [(e, s, w) for e, row in enumerate(self.channels[number]) for s, w in enumerate(row) if w]
            alone = len(found) == 1 and found[0][2] == 1.0
            names.append(f"{chemical_symbols[self.elements[found[0][0]]]} {found[0][1]}" if alone else str(number))
        return f"contraction of channels {', '.join(names)} with ranks {', '.join(map(str, contraction.ranks))}"


def shifted_gaussians(count: int, first: float, cutoff: float, overlap: float = 1.0) -> tuple[tuple[float, float], ...]:
    """`count` (eta, shift) with shifts evenly from `first` to just inside the cutoff, all of one width.

    The width makes neighbouring Gaussians cross at exp(-overlap / 4): eta = overlap / spacing^2.
    """
    if count == 0:
        return ()
    shifts = np.linspace(first, cutoff, count + 1)[:-1]
    spacing = (cutoff - first) / count
    eta = overlap / spacing**2
    return tuple((float(eta), float(shift)) for shift in shifts)


def automatic_set(
    elements: tuple[int, ...],
    cutoff: float,
    radial: int,
    shells: int,
    zetas: tuple[int, ...],
    cutoff_function: str = "polynomial",
    first_shift: float = 1.5,
    channels: int = 0,
    degree: int = 3,
) -> SymmetryFunctionSet:
    """The set that the deck's counts stand for: evenly shifted Gaussians from `first_shift` (bohr) outwards, and the
    contractions of `channels` mixtures of elements and shells up to moments of `degree`."""
    angles = tuple((zeta, lam) for zeta in zetas for lam in (1, -1))
    return SymmetryFunctionSet(
        elements=tuple(sorted(elements)),
        cutoff=cutoff,
        radial=shifted_gaussians(radial, first_shift, cutoff),
        shells=shifted_gaussians(shells, first_shift, cutoff),
        angles=angles,
        cutoff_function=cutoff_function,
        channels=mixed_channels(channels if shells else 0, len(elements), shells),
        contractions=automatic_contractions(channels if shells else 0, degree),
    )


def functions_of(model: ModelSettings, elements: Iterable[int]) -> SymmetryFunctionSet:
    """The symmetry functions of a deck's section `model` for these elements."""
    return automatic_set(
        tuple(sorted(set(elements))),
        model.cutoff,
        model.radial,
        model.shells,
        tuple(model.zetas),
        model.cutoff_function,
        channels=model.channels,
        degree=model.degree,
    )
