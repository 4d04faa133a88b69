"""The command line: everything that a notebook does, one call away from the shell.

A file is a group of commands: `speak` (speak, draw, hear), `train` (dataset, finetune, runs,
export), `evaluate`, and `pictures` (redo, gallery, ar, made-by, forget). A command checks its
input, calls the library, and says what came of it; it decides nothing. `app` has the options that
several share, `output` how things are said, `main` the program.
"""
