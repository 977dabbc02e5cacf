"""Production trajectories: where they start, sets of them, blocks over ranks."""
