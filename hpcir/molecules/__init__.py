"""Molecules: structures, bonds, fragments, rotamers, conformers, internal coordinates."""
