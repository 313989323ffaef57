"""Fusions that are trained: the abstract fusion that has a module, which training/learned_fusion.py hands to optimize.py."""

from abc import abstractmethod

from torch import nn

from pipeline.fusions.fusion import Features, Fusion


class LearnedFusion(Fusion):
    """`fit` is one pass as of any fusion: statistics, and where to start. Then `module` is trained in several, and adopted.

    Trained as a student is: a linear map of what it makes has to give back `goal`, a head a task the logits of its teachers.
    What it learns depends on the order of rows and the batch size, but not on anything else: the same seed, the same bytes.
    """

    updates: int
    batch_size: int
    learning_rate: float

    @abstractmethod
    def module(self) -> nn.Module:
        """{"teacher/tap": (B, D, *grid), and what it does not know} -> {target: (B, D, *grid)}, to be trained in place."""

    @abstractmethod
    def goal(self, features: Features) -> Features:
        """What has to be kept of features: {name: (B, D, *grid)}, on the target's grid, of a mean variance of 1."""

    @abstractmethod
    def adopt(self, module: nn.Module) -> None:
        """From now on `transform` is the trained module's, standardised again."""
