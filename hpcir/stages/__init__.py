"""The stages of a run: only here message passing, the store and the science meet."""
