"""Files on the disk: journals, HDF5 files with checksums, the run directory, provenance."""
