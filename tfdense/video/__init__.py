"""Matching films: reading frames, drawing and writing what was found in them."""
