"""What is written survives a kill: whole files, and a log of messages."""
