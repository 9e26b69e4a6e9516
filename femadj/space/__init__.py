"""Unknowns, and the regions that they are integrated over."""
