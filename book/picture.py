"""Draw the picture of the README and of the explorer without JavaScript: ``python book/picture.py``.

The first super-class at four epochs, from the explorer's data.
"""

import json

from nclib.chapters import explorer
from nclib.paths import REPOSITORY

data = json.loads((explorer.FOLDER / "data.json").read_text("utf-8"))
axes = explorer.epochs_figure(data)
target = REPOSITORY / "book" / "_static" / "fine-structure.png"
axes.figure.savefig(target, dpi=160, facecolor="white", bbox_inches="tight", pad_inches=0.08)
