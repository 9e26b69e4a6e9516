"""The optimisation loop: parametrisations of node coordinates, reduced problems, histories and adaptors."""
