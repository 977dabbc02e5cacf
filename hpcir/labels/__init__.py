"""Label engines: energy, forces and dipole of one geometry from electronic structure theory."""

from hpcir.labels.base import ENGINES, Label, LabelEngine, create_engine

__all__ = ["ENGINES", "Label", "LabelEngine", "create_engine"]
