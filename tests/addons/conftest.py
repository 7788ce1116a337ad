"""These tests need TensorFlow Addons: `make test-addons` runs them in an environment of its own."""

import importlib.util

if importlib.util.find_spec("tensorflow_addons") is None:
    collect_ignore_glob = ["test_*.py"]
