"""Matching many pairs: as they come, or those of a whole collection, a job on disk."""
