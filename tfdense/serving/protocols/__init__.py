"""What travels between client and server: pure functions of bytes, for both ends."""
