"""Writes the pages of findings."""
