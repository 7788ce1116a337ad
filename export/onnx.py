"""Exports a network to a .onnx file: python -m export.onnx RUN -o FILE"""

import sys

from tfdense.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", "onnx", *sys.argv[1:]]))
