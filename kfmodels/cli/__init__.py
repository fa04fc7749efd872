"""The commands of the shell, and the text and pages that they print."""
