"""Atom-centred symmetry functions (Behler, J. Chem. Phys. 134, 074106, 2011)."""
