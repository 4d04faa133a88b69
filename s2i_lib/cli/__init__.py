"""The command line: everything that a notebook does, one call away from the shell."""
