"""What a room says to its caller: a wrong argument named, a warning in its place, results in words."""
