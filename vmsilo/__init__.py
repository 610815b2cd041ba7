"""What every part of vmsilo must agree on. Standard library only; imports nothing else of the project."""

__version__ = "0.1.0"
