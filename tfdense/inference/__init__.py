"""Matching two images of any size with a network from any source."""
