"""Polar tensors of a data set against its charges and dipoles: the sum rules of translation and of rotation.

With P_jyx = dmu_x / dr_jy about an origin at rest, sum_j P_j = Q 1, and for every axis w
    sum_jy P_jyx (w x r_j)_y = (w x mu)_x
with r and mu about one point (Person and Newton, J. Chem. Phys. 61, 1040, 1974).
"""

from __future__ import annotations

import numpy as np

from hpcir.exchange.datasets import Dataset, Frame
from hpcir.exchange.findings import Finding, some
from hpcir.molecules.structures import centre

# Largest errors of the sums, in e and in e bohr: grids and fields leave less; the wrong order of indices leaves more.
SUM_TOLERANCE = 0.05
ROTATION_TOLERANCE = 0.1


def check_polar_tensors(dataset: Dataset) -> list[Finding]:
    """Polar tensors must add up to the total charge, and turn the dipole as the molecule turns (with indices in the
    other order they do not)."""
    having = dataset.having("polar_tensors")
    off = [n for n in having if np.abs(_total(dataset.frames[n])).max() > SUM_TOLERANCE]
    both = [n for n in having if dataset.frames[n].dipole is not None and n not in off]
    turned = [n for n in both if _rotation_error(dataset.frames[n]) > ROTATION_TOLERANCE]
    better = [n for n in turned if _rotation_error(dataset.frames[n], transposed=True) < ROTATION_TOLERANCE]
    findings = []
    if off:
        advice = "about which origin are they? An origin that moves with the atoms takes the charge out of the sum"
        text = f"polar tensors of {len(off)} geometries do not add up to the total charge ({some(off)})"
        findings.append(Finding("error", "polar tensors", text, advice, tuple(off)))
    if turned:
        text = f"polar tensors of {len(turned)} geometries do not turn the dipole with the molecule ({some(turned)})"
        advice = "another level of theory or another orientation than the dipole's?"
        if len(better) > len(turned) / 2:
            advice = "with the last two indices exchanged they do: give dmu_x / dr_y at [y, x], 3 y + x in nine columns"
        findings.append(Finding("error", "polar tensors", text, advice, tuple(turned)))
    return findings


def _total(frame: Frame) -> np.ndarray:
    assert frame.polar_tensors is not None
    return np.asarray(frame.polar_tensors.sum(0) - frame.charge * np.eye(3))


def _rotation_error(frame: Frame, transposed: bool = False) -> float:
    """Differences of sum_j P_j^T (w x r_j) and w x mu over the unit vectors w, in e bohr: both about the centre of
    nuclear charge, which is then at the origin of the coordinates."""
    assert frame.polar_tensors is not None
    assert frame.dipole is not None
    tensors = frame.polar_tensors.transpose(0, 2, 1) if transposed else frame.polar_tensors
    places = frame.positions - centre(frame.positions, frame.numbers.astype(float))
    errors = [
        np.einsum("jyx,jy->x", tensors, np.cross(axis, places)) - np.cross(axis, frame.dipole) for axis in np.eye(3)
    ]
    return float(np.abs(errors).max())
