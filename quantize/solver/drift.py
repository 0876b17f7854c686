"""How a layer's inputs differ from those that the float model would have had, and what its outputs lack by it.

With inputs X [n, I] that come out of the already quantized layers, float inputs Y [n, I] and weight W [O, I], the
outputs lack D W^T, D = Y - X. The weights that make good for it best, in the sense of least squares, are
W + (W D^T X / n) H^-1 (GPTAQ, Li et al., 2504.02692); they are then rounded in place of W. Knows neither grids nor
codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Drift:
    """Gathers W D^T X / n of the layers that share inputs, from one piece of activations after the other, in float32.

    Where the layers have fewer outputs than inputs that product itself is gathered [O, I], else D^T X [I, I]: the
    smaller of the two.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = list(weights)
        inputs = weights[0].shape[1]
        outputs = sum(W.shape[0] for W in weights)
        self._whole = outputs < inputs
        self._sum = torch.zeros((outputs if self._whole else inputs, inputs), device=weights[0].device)
        self._rows = 0.0

    def add(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        """Inputs x and float inputs y [T, I]; `weight` [T] counts a token less (or more) than once."""
        lacking = y.float() - x.float()
        if weight is not None:
            lacking = lacking * weight[:, None]
        if self._whole:
            lacking = torch.cat([lacking @ W.float().T for W in self._weights], dim=1)
        self._sum.addmm_(lacking.T, x.float())
        self._rows += x.shape[0] if weight is None else float(weight.sum())

    def divide_inputs(self, s: Tensor) -> None:
        """From now on for inputs that are divided by s [I], and weights times s."""
        self._sum /= s

    @classmethod
    def of_inputs(cls, inputs: int, device: torch.device) -> Drift:
        """Gathers D^T X [I, I]; of which layers is said later, by `for_weights`."""
        drift = cls([torch.empty((inputs, inputs), device="meta")])
        drift._sum = torch.zeros((inputs, inputs), device=device)
        return drift

    def for_weights(self, weights: Sequence[Tensor]) -> Drift:
        """The same for other layers of these inputs, gathered already."""
        assert not self._whole
        return self._sharing(list(weights), self._sum)

    def of_layer(self, layer: int) -> Drift:
        """The same for the layer of this number alone, gathered already."""
        first = sum(W.shape[0] for W in self._weights[:layer])
        found = self._sum[first : first + self._weights[layer].shape[0]] if self._whole else self._sum
        return self._sharing([self._weights[layer]], found)

    def _sharing(self, weights: list[Tensor], found: Tensor) -> Drift:
        other = object.__new__(Drift)
        other._weights, other._whole, other._sum, other._rows = weights, self._whole, found, self._rows
        return other

    def missing(self, layer: int, part: slice) -> Tensor:
        """W D^T X / n of some outputs of the layer of this number, [O, I]."""
        if self._whole:
            first = sum(W.shape[0] for W in self._weights[:layer])
            found = self._sum[first + part.start : first + part.stop]
        else:
            found = self._weights[layer][part].float() @ self._sum
        return found / max(self._rows, 1.0)
