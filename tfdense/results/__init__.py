"""What matching two images gives, and what it is good for."""
