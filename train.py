"""Trains a matching network on a folder of photos.

python train.py                                     # on the photos that come with tfdense
python train.py --data DIR --set train.steps=50000  # on your own
python train.py --config configs/default.yaml       # with another configuration
python train.py --resume runs/default               # after an interruption
"""

import sys

from tfdense.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
