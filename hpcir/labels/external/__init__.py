"""Labels that another program makes, run by the user: inputs are written, finished outputs are read and checked."""
