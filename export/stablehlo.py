"""Exports a training bundle: python -m export.stablehlo --config FILE --data DIR -o DIR"""

import sys

from tfdense.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", "stablehlo", *sys.argv[1:]]))
