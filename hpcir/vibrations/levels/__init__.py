"""Vibrational levels of one molecule from its surface: perturbation theory, variation, exact solutions on grids."""
