"""Classical free energies of conformers: rotation and vibrations, with a hindered rotor where a torsion is soft.

Counted in the molecule's own basin, every conformer alike, so that exp(-F / kT) over the order of the point group
(`molecules.symmetry`) is its weight. Vibrations give kT ln(omega / kT), rotation -kT ln sqrt(pi (2 kT)^3 I_a I_b I_c)
(McQuarrie, Statistical Mechanics, ch. 8): without the moments the product of the frequencies is not that of the
configuration integral, since the modes' masses belong to the geometry.

A mode that turns a bond is taken for a rotor in a cosine of n wells of the same curvature, 2 I omega^2 / n^2 high, with
u = I omega^2 / (n^2 kT) half its height over kT. One well's configuration integral is sqrt(2 pi u) exp(-u) I_0(u) times
that of the harmonic well (Pitzer, Gwinn, J. Chem. Phys. 10, 428, 1942): 1 for a stiff rotor, that of a free one of
1 / n turn for a soft one, whatever its frequency. I is the mode's inertia about the bond that it turns the most.
"""

from __future__ import annotations

import numpy as np

from hpcir.arrays import FloatArray
from hpcir.dynamics.thermal import is_linear
from hpcir.molecules.bonding import BondGraph
from hpcir.molecules.structures import centre
from hpcir.units import PER_CM
from hpcir.vibrations.normal_modes import NormalModes

# Wells in a full turn about a bond: sp3 atoms, and where one of them is unsaturated.
WELLS, FLAT_WELLS = 3, 2
# The softest mode that is no rotor counts as this one (cm-1): it stands for an integral that nobody has done.
MIN_OTHER_WAVENUMBER = 10.0
# Below this rate (rad / (bohr sqrt(electron mass))) of the torsion, a mode is no rotor.
MIN_RATE = 1e-6
# Half the height of a barrier over kT from which the asymptotic form of the Bessel function is exact to rounding.
STIFF = 1e5


def free_energy(modes: NormalModes, temperature: float, graph: BondGraph | None = None) -> float:
    """The classical free energy of rotation and vibrations about a minimum, hartree; temperature in hartree.

    graph: the bonds, whose rotatable ones are rotors; None: all modes are harmonic.
    """
    return rotational(modes.positions, modes.masses, temperature) + vibrational(modes, temperature, graph)


def rotational(positions: FloatArray, masses: FloatArray, temperature: float) -> float:
    """-kT ln q of the classical rotor without its symmetry number, hartree; positions (N, 3), masses (N,)."""
    relative = positions - centre(positions, masses)
    second = (relative * masses[:, None]).T @ relative
    moments = np.linalg.eigvalsh(np.trace(second) * np.eye(3) - second)
    if is_linear(positions, masses):
        return float(-temperature * np.log(2 * temperature * moments[2]))
    return float(-temperature * 0.5 * np.log(np.pi * np.prod(2 * temperature * moments)))


def vibrational(modes: NormalModes, temperature: float, graph: BondGraph | None = None) -> float:
    """kT ln(omega / kT) of all modes less kT ln(hindered over harmonic) of those that turn rotatable bonds, hartree."""
    omega = PER_CM * np.maximum(modes.wavenumbers, MIN_OTHER_WAVENUMBER)
    logarithms = np.log(omega / temperature)
    if graph is not None:
        inertia, wells = rotor_inertia(modes, graph)
        turning = np.isfinite(inertia)
        squared = np.sign(modes.wavenumbers) * (PER_CM * modes.wavenumbers) ** 2
        # A maximum between wells is at the top of the same cosine: as soft as can be.
        u = np.maximum(inertia * squared, 0.0)[turning] / (wells[turning] ** 2 * temperature)
        logarithms[turning] = -log_rotor(u, inertia[turning], wells[turning], temperature)
    return float(temperature * logarithms.sum())


def log_rotor(u: FloatArray, inertia: FloatArray, wells: FloatArray, temperature: float) -> FloatArray:
    """ln q of one of the wells of classical hindered rotors: u half the height over kT, inertia in atomic units."""
    from scipy.special import ive

    # The Bessel function of a stiff mode that hardly turns the bond is beyond what the library evaluates.
    stiff = u > STIFF
    bessel = np.log(ive(0, np.where(stiff, 1.0, u)))
    asymptotic = -0.5 * np.log(2 * np.pi * np.where(stiff, u, 1.0)) + 1 / (8 * np.where(stiff, u, 1.0))
    return np.asarray(np.log(np.sqrt(2 * np.pi * inertia * temperature) / wells) + np.where(stiff, asymptotic, bessel))


def rotor_inertia(modes: NormalModes, graph: BondGraph) -> tuple[FloatArray, FloatArray]:
    """(M,) inertia of each mode about the rotatable bond that it turns the most, electron masses bohr^2, inf for a mode
    that turns none; (M,) wells of that bond."""
    rates, wells = np.zeros((1, len(modes))), [float(WELLS)]
    for i, j in graph.rotatable:
        flat = graph.unsaturated[i] or graph.unsaturated[j]
        rates = np.vstack([rates, _turning_rates(modes, graph, i, j)])
        wells.append(float(FLAT_WELLS if flat else WELLS))
    most = np.argmax(rates, axis=0)
    rate = rates[most, np.arange(len(modes))]
    with np.errstate(divide="ignore"):
        return np.where(rate > MIN_RATE, 1 / rate**2, np.inf), np.array(wells)[most]


def _turning_rates(modes: NormalModes, graph: BondGraph, i: int, j: int) -> FloatArray:
    """(M,) |d phi / dQ|: how fast each mode turns the two ends of a bond against each other, averaged over the atoms of
    either end."""
    axis = modes.positions[j] - modes.positions[i]
    axis = axis / np.linalg.norm(axis)
    displacements = modes.modes / np.sqrt(modes.masses)[:, None]
    turning = []
    for atom, other in ((i, j), (j, i)):
        ends = [k for k in graph.neighbours[atom] if k != other]
        arms = modes.positions[ends] - modes.positions[atom]
        arms = arms - np.outer(arms @ axis, axis)
        around = np.cross(axis, arms)
        relative = displacements[:, ends] - displacements[:, [atom]]
        turning.append(np.einsum("mka,ka->m", relative, around) / (arms**2).sum())
    return np.abs(turning[1] - turning[0])
