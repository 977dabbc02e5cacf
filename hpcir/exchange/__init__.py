"""Files of other programs, read and written: data sets, their audit, extxyz, n2p2 potentials."""
