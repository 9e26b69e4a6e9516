"""Equations without a mesh: residuals, constraints, the adjoint, and systems of plain functions."""
