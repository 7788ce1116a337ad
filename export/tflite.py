"""Exports a network to a .tflite file: python -m export.tflite RUN -o FILE"""

import sys

from tfdense.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", "tflite", *sys.argv[1:]]))
