"""A study: labels, the learning loop, production trajectories and results of one molecule or several."""
