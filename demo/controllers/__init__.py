"""Controllers of the demo cluster: what kube-controller-manager and kube-scheduler do, on the in-process storage."""

from flows.demo.controllers.loop import run_controllers

__all__ = ["run_controllers"]
