"""Exports a network to a SavedModel: python -m export.saved_model RUN -o DIR"""

import sys

from tfdense.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", "saved-model", *sys.argv[1:]]))
