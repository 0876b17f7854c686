"""The Hessian of a layer's squared output error, H = X^T X / n: how it is gathered, factored and put back.

A layer with inputs X [n, I] and weight W [O, I] has, for a change D of the weight, the squared output error
tr(D H D^T) n. Knows neither grids nor codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: Columns that the factorization handles at a time.
PANEL = 512

#: Outputs on which a layer's error is measured.
SAMPLED_OUTPUTS = 128


#: Columns of the sum that are added to at a time: what lies below the diagonal of such a stripe is left out.
STRIPE = 1024


class HessianSum:
    """Gathers H from one piece of activations after the other, in float32; only the upper triangle is summed up.

    One piece is one set of products, so that the order of additions does not depend on the machine's memory.
    """

    def __init__(self, in_features: int, device: torch.device | None = None) -> None:
        self._sum = torch.zeros((in_features, in_features), device=device)
        self._rows = 0.0

    def add(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Inputs [T, I]; `weight` [T] counts a token less (or more) than once."""
        x = x.float()
        if weight is not None:
            x = x * weight.sqrt()[:, None]
        for start in range(0, x.shape[1], STRIPE):
            part = slice(start, start + STRIPE)
            self._sum[part, start:].addmm_(x[:, part].T, x[:, start:])
        self._rows += x.shape[0] if weight is None else float(weight.sum())

    def finish(self) -> Tensor:
        """H [I, I]. The sum is given away, not copied: the next `add` would change it."""
        mirror(self._sum.div_(max(self._rows, 1.0)))
        return self._sum


def damp(H: Tensor, damp_percent: float) -> float:
    """Adds `damp_percent` of the mean diagonal to the diagonal, in place; returns what was added.

    Inputs that were always 0 (dead columns) thereby get a diagonal, and an H of zeros becomes the identity.
    """
    mean = float(H.diagonal().mean())
    added = damp_percent * mean if mean > 0 else 1.0
    H.diagonal().add_(added)
    return added


def factorize(H: Tensor) -> bool:
    """H = L L^T in place: L takes the lower triangle, what was above the diagonal stays. False: not positive definite.

    Left-looking by panels, so that no second matrix of this size is needed (13696 inputs: 0.75 GB).
    """
    for start in range(0, H.shape[0], PANEL):
        stop = min(start + PANEL, H.shape[0])
        left = H[start:, :start]
        column = torch.addmm(H[start:, start:stop], left, H[start:stop, :start].T, alpha=-1)
        found = _factorize_corner(column[: stop - start])
        if found is None:
            return False
        top, inverse = found
        corner = H[start:stop, start:stop]
        corner.copy_(torch.where(torch.ones_like(corner).tril().bool(), top, corner))
        H[stop:, start:stop] = column[stop - start :] @ inverse.T
    return True


def divide_columns(H: Tensor) -> Tensor:
    """Divides every column of the factor in the lower triangle by its diagonal, in place: L_ik becomes L_ik / L_kk.

    Returns what the diagonal was, [I].
    """
    diagonal = H.diagonal().clone()
    for start in range(0, H.shape[0], PANEL):
        stop = min(start + PANEL, H.shape[0])
        corner = H[start:stop, start:stop]
        corner.copy_(corner.triu(1) + (corner / diagonal[start:stop]).tril())
        H[stop:, start:stop] /= diagonal[start:stop]
    return diagonal


def solve(U: Tensor, pivots: Tensor, rows: Tensor) -> Tensor:
    """H^-1 rows, in place, from H's factor: `U` and `pivots` [I] as `divide_columns` leaves them; rows [I, O]."""
    starts = range(0, U.shape[0], PANEL)
    for start in starts:
        part = slice(start, min(start + PANEL, U.shape[0]))
        wanted = torch.addmm(rows[part], U[part, :start], rows[:start], alpha=-1)
        rows[part] = invert_triangle(U[part, part].tril(), upper=False) @ wanted
    rows /= pivots.square()[:, None]
    for start in reversed(starts):
        part = slice(start, min(start + PANEL, U.shape[0]))
        wanted = torch.addmm(rows[part], U[part.stop :, part].T, rows[part.stop :], alpha=-1)
        rows[part] = invert_triangle(U[part, part].tril().T, upper=True) @ wanted
    return rows


def invert_triangle(triangle: Tensor, upper: bool) -> Tensor:
    """The inverse of a triangular matrix."""
    with _one_thread():
        eye = torch.eye(len(triangle), dtype=triangle.dtype, device=triangle.device)
        return torch.linalg.solve_triangular(triangle, eye, upper=upper)


def _factorize_corner(corner: Tensor) -> tuple[Tensor, Tensor] | None:
    """L and its inverse for corner = L L^T, None if it is not positive definite."""
    with _one_thread():
        top, info = torch.linalg.cholesky_ex(corner)
    if int(info) or not bool(top.isfinite().all()):
        return None
    return top, invert_triangle(top, upper=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """LAPACK's results depend on the number of threads, and the same checkpoint would come out different.

    Matrix products do not have that flaw.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def restore(H: Tensor, diagonal: Tensor) -> None:
    """Undoes `damp` and `factorize`, bit by bit."""
    mirror(H)
    H.diagonal().copy_(diagonal)


def permute(H: Tensor, order: Tensor) -> None:
    """H becomes H[order][:, order], in place: columns, transposed, columns, transposed back."""
    for _ in range(2):
        for start in range(0, H.shape[0], PANEL):
            rows = H[start : start + PANEL]
            rows.copy_(rows[:, order])
        _transpose(H)


def _transpose(H: Tensor) -> None:
    """In place, panel by panel."""
    for start in range(0, H.shape[0], PANEL):
        stop = min(start + PANEL, H.shape[0])
        for left in range(0, start, PANEL):
            below, above = H[start:stop, left : left + PANEL], H[left : left + PANEL, start:stop]
            kept = below.T.clone()
            below.copy_(above.T)
            above.copy_(kept)
        corner = H[start:stop, start:stop]
        corner.copy_(corner.T.clone())


def mirror(H: Tensor) -> None:
    """Makes the lower triangle that of the upper one, in place."""
    for start in range(0, H.shape[0], PANEL):
        stop = min(start + PANEL, H.shape[0])
        corner = H[start:stop, start:stop]
        corner.copy_(corner.triu() + corner.triu(1).T)
        H[stop:, start:stop] = H[start:stop, stop:].T


def sampled(W: Tensor) -> Tensor:
    """Up to SAMPLED_OUTPUTS evenly spaced outputs of W [O, I]."""
    return W[:: sampling_step(len(W))]


def sampling_step(outputs: int) -> int:
    """Between two of the sampled outputs."""
    return -(-outputs // SAMPLED_OUTPUTS)


def energy(rows: Tensor, H: Tensor | None) -> float:
    """|X rows^T|^2 / n, rows [R, I] in float32; H None: |rows|^2."""
    return float(((rows if H is None else rows @ H) * rows).sum())


def relative_error(W: Tensor, Q: Tensor, H: Tensor | None) -> float:
    """|X (W - Q)^T| / |X W^T|, measured on the sampled outputs. W, Q [O, I].

    H None: |W - Q| / |W|.
    """
    rows = sampled(W).float()
    whole, lost = energy(rows, H), energy(rows - sampled(Q).float(), H)
    return (max(lost, 0.0) / whole) ** 0.5 if whole > 0 else 0.0
