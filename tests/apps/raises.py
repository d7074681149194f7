"""Raises at its import."""

raise RuntimeError("the app refuses to start")
