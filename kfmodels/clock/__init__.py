"""Open time and closed periods, read off time stamps."""
