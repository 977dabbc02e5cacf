"""Data sets of many molecules, a folder or a group each: deepmd, SPICE, ANI, QM7-X."""
