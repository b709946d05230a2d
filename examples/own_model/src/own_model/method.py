"""A method of this package's own."""

from __future__ import annotations

from pytest_sparsity import Calibrator, Plan, Threshold


class DownOnly:
    """TEAL's thresholds for the neurons after squared ReLU, and for nothing else."""

    name = "down_only"
    parameters = {"kinds": "down"}  # noqa: RUF012 - what changes the plan besides the level

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """The plan for ``level`` of the calibrator's model."""
        thresholds = calibrator.quantiles(level)
        selectors = {
            site.name: Threshold(thresholds[site.name])
            for site in calibrator.model.sites
            if site.kind == "down"
        }
        return Plan(self.name, level, selectors, calibrator.prefill)
