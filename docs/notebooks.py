"""Guides as notebooks: their Python blocks become cells, the rest text."""

from pathlib import Path

import jupytext

GUIDES = ("matching.md", "own_network.md")

_PICTURES = """\
# Pictures to try it with: those that come with tfdense.
import shutil
from importlib.resources import files

for picture in ("source.jpg", "target.jpg"):
    shutil.copy(str(files("tfdense") / "data" / "pair" / picture), picture)
shutil.copytree(str(files("tfdense") / "data" / "photos"), "photos", dirs_exist_ok=True)
"""


def notebook(page: Path) -> str:
    """Returns a page as the JSON of a notebook that runs in any folder.

    Args:
        page: a Markdown file whose Python blocks run in order, given source.jpg, target.jpg and
            the folder photos.
    """
    document = jupytext.read(page, fmt="md")
    first = next(i for i, cell in enumerate(document.cells) if cell.cell_type == "code")
    cell = jupytext.reads(f"```python\n{_PICTURES}```\n", fmt="md").cells[0]
    document.cells.insert(first, cell)
    document.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return jupytext.writes(document, fmt="ipynb")
