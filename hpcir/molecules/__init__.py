"""What is known of molecules beside their geometries: isotopes, pieces, other programs' files, names."""
