"""Gaussian process regression of labels on symmetry functions, and what networks learn from it."""
