"""What MkDocs has to know of this repository: pages outside of docs/, and guides as notebooks."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File
from notebooks import GUIDES, notebook

# Pages by their paths in the repository, with those in the site.
_ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "experiments/README.md": "experiments.md",
    "tfdense/data/README.md": "photos.md",
    "tfdense/weights/README.md": "model_card.md",
}
_HOMES = {place: path for path, place in _ELSEWHERE.items()}

# Code is passed over.
_LINK = re.compile(
    r"^```.*?^```$|^ {4}.*?$|`[^`]*`(?!\])|(!?\[[^\]]*\])\(([^)\s]+)\)", re.MULTILINE | re.DOTALL
)


def on_files(files, config):
    """Adds the pages from elsewhere, and the notebooks."""
    root = Path(config.config_file_path).parent
    for path, place in _ELSEWHERE.items():
        text = (root / path).read_text("utf-8")
        files.append(File.generated(config, place, content=text))
    for guide in GUIDES:
        content = notebook(root / "docs" / guide)
        files.append(File.generated(config, _notebook_of(guide), content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes links that hold in the repository hold in the site; drops those to other files."""
    place = page.file.src_uri
    folder = posixpath.dirname(_HOMES.get(place, f"docs/{place}"))

    def moved(link):
        label, target = link.groups()
        if label is None or "://" in target or target.startswith("#"):
            return link[0]
        path, hash_, heading = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path not in _ELSEWHERE and not path.startswith("docs/"):
            return label.strip("![]")
        uri = _ELSEWHERE.get(path, path.removeprefix("docs/"))
        relative = posixpath.relpath(uri, posixpath.dirname(place) or ".")
        return f"{label}({relative}{hash_}{heading})"

    text = _LINK.sub(moved, markdown)
    if place in GUIDES:
        text += f"\n\n[This page as a notebook]({_notebook_of(place)})\n"
    return text


def _notebook_of(guide: str) -> str:
    return f"notebooks/{Path(guide).stem}.ipynb"
