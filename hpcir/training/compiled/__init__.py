"""Compiled loops of an optimiser step on the processor; torch does the same on a GPU, and is their plain twin."""
