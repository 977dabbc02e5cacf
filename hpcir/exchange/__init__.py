"""What comes in from other programs and goes out to them: data sets, their audit, extxyz, n2p2 potentials."""
