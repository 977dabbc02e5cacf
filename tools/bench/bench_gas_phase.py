#!/usr/bin/env python3
"""A run held against a gas-phase spectrum: what contours do, what is left, and what a scale factor would hide.

tools/bench/bench_gas_phase.py RUN EXPERIMENT.jdx [--lower 480] [--upper 3800]

Printed: Pearson and cosine of the curves between two wavenumbers, with the contours that `hpcir compare` chooses and
with none; the shift of each band over 5 km/mol and the largest; and the uniform scale factor of the wavenumbers that
makes the cosine largest, which no result of the program has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hpcir.spectra.compare import compare
from hpcir.study.results.contours import gas_phase
from hpcir.study.results.spectrum_files import read_spectrum

STRONG = 5.0
SCALES = np.arange(0.970, 1.0301, 0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--lower", type=float, default=480.0)
    parser.add_argument("--upper", type=float, default=3800.0)
    options = parser.parse_args()
    measured = read_spectrum(options.experiment)
    bare = read_spectrum(options.run)
    made = gas_phase(bare, measured, options.run)
    limits = {"lower": options.lower, "upper": options.upper}
    for words, stored in (("as computed", bare), ("with its contours", made)):
        found = compare(stored.spectrum, measured.spectrum, **limits)
        print(f"{words}: Pearson {found.pearson:.3f}, cosine {found.cosine:.3f}")
    strong = [match for match in found.matches if match.second.intensity_km_per_mol > STRONG]
    for match in strong:
        print(f"  {match.second.position_per_cm:.1f} cm-1: shift {match.shift_per_cm:+.1f} cm-1")
    print(f"largest shift of {len(strong)} bands: {max(abs(match.shift_per_cm) for match in strong):.0f} cm-1")
    cosines = [compare(made.spectrum, measured.spectrum, position_scale=s, **limits).cosine for s in SCALES]
    print(f"a scale factor of {SCALES[int(np.argmax(cosines))]:.3f} would give a cosine of {max(cosines):.3f}")


if __name__ == "__main__":
    main()
