"""How a network is used to match two images of any size: settings, modes, one pipeline of steps."""
