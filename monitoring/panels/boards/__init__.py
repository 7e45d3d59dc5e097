"""The boards, one a file, in the order in which a newcomer needs them."""

from lehr.monitoring.panels.boards.training import TRAINING
from lehr.monitoring.panels.panel import Board

BOARDS: tuple[Board, ...] = (TRAINING,)

__all__ = ["BOARDS", "TRAINING"]
