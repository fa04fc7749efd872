"""What a room says to its caller: a wrong argument named, a warning, how far it is, a result."""
