"""The report of a run: PNG figures and one self-contained HTML page, from finished files alone."""
