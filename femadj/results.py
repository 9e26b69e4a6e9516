"""Result files: the field, node gradients and their density on the boundary, for ParaView."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import mapping_of, real_array
from femadj.base.arrays import FloatArray
from femadj.errors import InvalidMeshError, ResponseError
from femadj.io import write_vtu
from femadj.mesh import Mesh, checked_points, require_mesh
from femadj.mesh.normals import boundary_normals
from femadj.mesh.reference import cell_type
from femadj.problems import AnyGradient, AnySolution, require_solution
from femadj.problems.gradient import Metric


def boundary_density(mesh: Mesh, gradient: npt.ArrayLike, points: npt.ArrayLike | None = None) -> FloatArray:
    """Change of a response when its boundary moves outward, per unit of movement and of area.

    At node ``a`` of the boundary ``G_a . n_a / A_a``, with the outward unit normal ``n_a`` and the nodal area ``A_a``
    (length in 2-D). Where the surface is smooth, a movement ``d`` along the normals changes the response by about
    ``sum_a d_a A_a density_a``; at sharp edges the normals of the faces are averaged.

    On quadratic facets, gradient, area and normal of the nodes that are not corners are first shared out equally to
    the corners they lie between, and those nodes then take the mean of their corners. The raw gradient alternates
    between corners and mid-side nodes (``int N_a ds`` is zero at the corners of a quadratic triangle, negative at
    those of an eight-node quadrilateral), and so would the quotient; what is shared out is the exact derivative by
    movements that are linear along every facet edge.

    Parameters
    ----------
    mesh : Mesh
    gradient : (n_nodes, dim)
        ``Gradient.points``, [J]/[length].
    points : (n_nodes, dim), optional
        Node coordinates of the gradient; those of the mesh when left out.

    Returns
    -------
    density : (n_nodes,)
        [J]/[length]/[length^2] (in 2-D [J]/[length]/[length]). Zero inside the body, where there is no boundary to
        move (zero and not NaN, so that slices and filters of every viewer take it).

    Raises
    ------
    InvalidMeshError
        For arrays that do not fit the mesh.
    """
    require_mesh(mesh)
    g = real_array(gradient, "the gradient", InvalidMeshError, "an array of node gradients, Gradient.points")
    if g.shape != mesh.points.shape or not np.isfinite(g).all():
        raise InvalidMeshError(f"the gradient must be finite and have shape {mesh.points.shape}, not {g.shape}")
    x = mesh.points if points is None else checked_points(points, mesh.points.shape)
    boundary = boundary_normals(mesh, x)
    on_boundary = boundary.areas > 0
    columns = np.column_stack([g, boundary.area_vectors, boundary.areas])
    columns[~on_boundary] = 0.0
    children, parents = _nodes_between_corners(mesh)
    shares = (parents >= 0).sum(axis=1)
    for parent in parents.T:
        real = parent >= 0
        np.add.at(columns, parent[real], columns[children[real]] / shares[real, None])
    density = np.zeros(mesh.n_nodes)
    corners = on_boundary.copy()
    corners[children] = False
    shared_g, vector, area = np.split(columns[corners], [mesh.dim, 2 * mesh.dim], axis=1)
    length = np.linalg.norm(vector, axis=1, keepdims=True)
    normal = np.divide(vector, length, out=np.zeros_like(vector), where=length > 1e-12 * area)
    density[corners] = (shared_g * normal).sum(axis=1) / area[:, 0]
    sums = np.zeros(len(children))
    for parent in parents.T:
        sums += np.where(parent >= 0, density[parent], 0.0)
    density[children] = sums / shares
    return density


def _nodes_between_corners(mesh: Mesh) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Boundary nodes that are not corners ``(n,)``, and the corners each lies between ``(n, 4)``, padded with -1."""
    children, parents = [np.empty(0, np.int64)], [np.empty((0, 4), np.int64)]
    for name, nodes in mesh.facet_cells(mesh.boundary()):
        facet = cell_type(name)
        corner_sets = [*facet.edges, tuple(range(facet.n_corners))][: facet.n_nodes - facet.n_corners]
        for local, corners in enumerate(corner_sets, start=facet.n_corners):
            padded = np.full((len(nodes), 4), -1, dtype=np.int64)
            padded[:, : len(corners)] = nodes[:, list(corners)]
            children.append(nodes[:, local].astype(np.int64))
            parents.append(padded)
    found, first = np.unique(np.concatenate(children), return_index=True)
    return found, np.vstack(parents)[first]


def write_results(
    path: str | os.PathLike[str],
    solution: AnySolution,
    gradient: AnyGradient | Mapping[str, AnyGradient] | None = None,
    *,
    metric: Metric | None = None,
    point_data: Mapping[str, npt.ArrayLike] | None = None,
    cell_data: Mapping[str, npt.ArrayLike] | None = None,
) -> Path:
    """Write a solution and its gradients to a VTU file.

    The nodes stand where the solution has them. Point data:

    - ``displacement`` (vectors), or ``field`` (scalars) of a scalar physics; the parts of a mixed unknown by their
      names, as means over the cells at a node; the stages of a chain by theirs;
    - ``dJ/dX``, the raw node gradient (vectors), and ``dJ/dn per area``, its density on the boundary (see
      ``boundary_density``; zero inside). With several gradients ``d(name)/dX`` and ``d(name)/dn per area`` of each;
    - with a metric ``dJ/dX riesz``, the filtered gradient: the movement that stands for the raw one in the metric;
    - ``node_id``, the number of the node in the input file.

    Cell data: ``volume`` (area in 2-D), ``quality`` (scaled Jacobian), and ``in name``, 1 in the cells of a cell group
    and 0 elsewhere.

    Parameters
    ----------
    path : path
        Must end in ``.vtu``; missing folders are made.
    solution : Solution, ChainSolution, or HistorySolution, of which the field at the final time is written
    gradient : Gradient, ChainGradient or TransientGradient, or mapping of response name to such, optional
    metric : HelmholtzFilter, or anything with a method ``riesz(gradient)``, optional
    point_data, cell_data : mapping of name to array, optional
        Further fields, as ``write_vtu`` takes them.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidMeshError
        For an array that does not fit the mesh.
    MeshFileError
        Where the file cannot be written.
    """
    require_solution(solution, "write_results")
    mesh, x = solution.problem.mesh, solution.points
    nodal: dict[str, npt.ArrayLike] = {}
    for stage, part in solution.stages.items():
        nodal |= part.nodal_fields(stage)
    single = isinstance(gradient, AnyGradient)
    named = {"J": gradient} if single else mapping_of(gradient, "gradient", ResponseError)
    for name, each in named.items():
        if not isinstance(each, AnyGradient):
            raise ResponseError(f"the gradient of {name!r} must be a Gradient, not {type(each).__name__}")
        of = f"d{name}" if single else f"d({name})"
        nodal[f"{of}/dX"] = each.points
        nodal[f"{of}/dn per area"] = boundary_density(mesh, each.points, x)
        if metric is not None:
            nodal[f"{of}/dX riesz"] = metric.riesz(each.points)
    nodal["node_id"] = mesh.node_ids
    cellwise: dict[str, npt.ArrayLike] = {"volume": mesh.cell_volumes(x), "quality": mesh.quality(x)}
    for name, cells in mesh.cell_groups.items():
        cellwise[f"in {name}"] = np.isin(np.arange(mesh.n_cells), cells).astype(np.int64)
    nodal |= mapping_of(point_data, "point_data", InvalidMeshError)
    cellwise |= mapping_of(cell_data, "cell_data", InvalidMeshError)
    return write_vtu(path, mesh, x, nodal, cellwise)
