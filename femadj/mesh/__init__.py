"""Meshes: reference cells, topology, groups, geometry, exchange with scikit-fem."""

from femadj.mesh.mesh import Mesh, checked_points, require_mesh

__all__ = ["Mesh", "checked_points", "require_mesh"]
