"""Training run: whether it learns, how fast, what is lost if it dies now, what it costs."""

from __future__ import annotations

from lehr.monitoring.panels.boards.common import PLACES, RESTARTS, ROLLBACKS, RUN, STAGE, STAGES
from lehr.monitoring.panels.boards.training.cost import COST
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
    (NOW, LEARNING, FAST, SAFETY, COST),
    (STAGES, RESTARTS, ROLLBACKS),
    PLACES,
    ("LehrStalled", "LehrDiverging", "LehrSpikeStorm", "LehrStraggler", "LehrDataStall", "LehrCheckpointOld", "LehrCrashLoop"),
)
