"""Training geometries: normal modes, exploration by the committee, selection."""
