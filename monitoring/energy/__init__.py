"""A run's energy on one machine: from hardware counters where there are some, otherwise an estimate that is marked as such."""

from lehr.monitoring.energy.meter import PowerMeter

__all__ = ["PowerMeter"]
