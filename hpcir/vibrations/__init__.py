"""Vibrations of a potential: minima, normal modes and their names."""
