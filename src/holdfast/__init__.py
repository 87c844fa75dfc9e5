"""Holdfast: asynchronous functions over HTTP."""

__version__ = "0.1.0"
