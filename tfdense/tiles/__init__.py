"""Large photos in tiles: each is matched again, at its own pixels, and joined without a seam."""
