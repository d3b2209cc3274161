"""Write the data of the explorer, ``book/explorer``: a few minutes on one core.

    python book/explorer_data.py              of recipe cifar10-laptop, from the store or trained now
    python book/explorer_data.py FOLDER       of the run in this folder of a store

Needs the data set; the run keeps its features at every measured epoch. The same run gives the same files on
one machine.
"""

import sys
from pathlib import Path

from nclib import get_run
from nclib.chapters import explorer
from nclib.runs.run import Run

RECIPE = "cifar10-laptop"

run = Run(Path(sys.argv[1])) if sys.argv[1:] else get_run(RECIPE, released=False)
explorer.write(run, explorer.FOLDER)
