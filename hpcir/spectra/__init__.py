"""From dipole series to a spectrum in absolute units with error bars, bands, assignment and comparison.

`correlation` and `intensities` turn the dipole series of every trajectory into its spectrum; `estimators` averages
them (control variates or plain mean); `bands` finds and integrates bands; `estimate` does all of it in one call;
`assignment`, `comparison` (`compare`), `files.jcamp` and `series` serve what comes before and after.
"""
