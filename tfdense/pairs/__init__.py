"""Matching the pairs of a whole collection of photos: a job on disk that can be broken off."""
