"""Hold one module for each group of commands; ``utils/cli.py`` imports the one that was asked for."""
