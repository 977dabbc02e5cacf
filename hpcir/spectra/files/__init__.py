"""Files of spectra and dipole series: what their formats mean, and whether what they state can be."""
