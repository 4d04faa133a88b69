"""The command line: ``python -m s2i_lib``; see `s2i_lib.cli`."""

import sys

from s2i_lib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
