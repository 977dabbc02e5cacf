"""Where training geometries come from: normal modes, exploration by the committee, selection."""
