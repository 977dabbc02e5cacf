"""Molecules: structures and their files, isotopes, bonds, fragments, rotamers, conformers, internal coordinates."""
