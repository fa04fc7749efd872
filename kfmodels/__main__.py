"""`python -m kfmodels` is the command `kfmodels`."""

from kfmodels.cli.cli import app

if __name__ == "__main__":
    app()
