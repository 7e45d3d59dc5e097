"""Training run: whether it learns, how fast, what is lost if it dies now, what it costs."""

from __future__ import annotations

from lehr.monitoring.panels.boards.common import CORDONS, PLACES, RESTARTS, ROLLBACKS, RUN, STAGE, STAGES
from lehr.monitoring.panels.boards.training.cost import ABOUT, COST
from lehr.monitoring.panels.boards.training.learning import LEARNING
from lehr.monitoring.panels.boards.training.now import NOW
from lehr.monitoring.panels.boards.training.safety import SAFETY
from lehr.monitoring.panels.boards.training.speed import FAST
from lehr.monitoring.panels.panel import Board

TRAINING = Board(
    "lehr-training",
    "Lehr / Training run",
    "Is this run healthy, fast and worth its energy?",
    (RUN, STAGE),
    (NOW, LEARNING, FAST, SAFETY, COST, ABOUT),
    (STAGES, RESTARTS, ROLLBACKS, CORDONS),
    PLACES,
    ("LehrStalled", "LehrDiverging", "LehrSpikeStorm", "LehrStraggler", "LehrDataStall", "LehrCheckpointOld", "LehrCrashLoop"),
)
