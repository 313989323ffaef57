"""Fusions that are trained: the abstract fusion with a module, which training/learned_fusion.py passes to optimize.py."""

from abc import abstractmethod

from torch import nn

from pipeline.fusions.fusion import Features, Fusion


class LearnedFusion(Fusion):
    """`fit` is one pass, as in any fusion: statistics, and where to start. Then `module` is trained in several and adopted.

    It is trained as a student is: from its output a linear map has to give back `goal`, and a head per task the logits of
    that task's teachers. What it learns depends on the order of rows and the batch size, and on nothing else: the same seed,
    the same bytes.
    """

    updates: int
    batch_size: int
    learning_rate: float

    @abstractmethod
    def module(self) -> nn.Module:
        """{"teacher/tap": (B, D, *grid), others ignored} -> {target: (B, D, *grid)}, to be trained in place."""

    @abstractmethod
    def goal(self, features: Features) -> Features:
        """What has to be kept of features: {name: (B, D, *grid)}, on the target's grid, of a mean variance of 1."""

    @abstractmethod
    def adopt(self, module: nn.Module) -> None:
        """From now on `transform` applies the trained module, standardised again."""
