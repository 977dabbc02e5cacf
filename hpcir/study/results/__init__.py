"""Results of finished trajectories: independent test, trust map, spectrum, summary."""
