"""The boards, one a file, in the order in which a newcomer needs them."""

from lehr.monitoring.panels.boards.data import DATA
from lehr.monitoring.panels.boards.evaluation import EVALUATION
from lehr.monitoring.panels.boards.experiments import EXPERIMENTS
from lehr.monitoring.panels.boards.fleet import FLEET
from lehr.monitoring.panels.boards.goodput import GOODPUT
from lehr.monitoring.panels.boards.post_training import POST_TRAINING
from lehr.monitoring.panels.boards.serving import SERVING
from lehr.monitoring.panels.boards.training import TRAINING
from lehr.monitoring.panels.panel import Board

BOARDS: tuple[Board, ...] = (TRAINING, POST_TRAINING, EVALUATION, DATA, FLEET, GOODPUT, EXPERIMENTS, SERVING)

__all__ = ["BOARDS"]
