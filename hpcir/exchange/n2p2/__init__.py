"""Potentials of n2p2 and RuNNer: read, written, evaluated as they are, and converted to hpcir's own models."""

from hpcir.exchange.n2p2.transfer import CHARGES_FOLDER, export_n2p2, import_n2p2

__all__ = ["CHARGES_FOLDER", "export_n2p2", "import_n2p2"]
