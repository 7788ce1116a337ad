"""The geometry of two views by their matches: homography, pose, unknown focal length."""
