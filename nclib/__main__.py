"""``python -m nclib``: the command line, also where no script ``nclib`` is on the path."""

import sys

from nclib.cli import main

if __name__ == "__main__":
    sys.exit(main())
