"""Batch prediction on Kubeflow: submit the definition, watch it and return the manifest."""

from __future__ import annotations

import re

from backends.base import StepState, Watch
from backends.kubeflow.backend import UUID, KubeflowBackend
from backends.kubeflow.submit import Json, compiled, unique_name
from backends.kubeflow.watch import events_of
from digits import homes
from pipeline import BATCH, BATCH_STEPS


class KubeflowBatch(KubeflowBackend):
    """A connection to Kubeflow for batches. Their state is in the output, so no run is recorded on this machine."""

    again = "the same command, which continues"

    def predict(self, parameters: Json, watch: Watch) -> Json:
        """Run the definition with these parameters; return the manifest, {} if Kubeflow has no log of the last step.

        Raises:
            RunContinues: the run can no longer be watched.
            StepFailed: a step failed.
            Interrupted: Ctrl-C, which also stops the run.
        """
        from pipeline.batch_definition import build

        homes.claim(self.settings.home)  # before anything is submitted
        spec = compiled(self.settings, of=build)
        return self.follow(self.api.submit(spec, unique_name(BATCH), BATCH, parameters), watch)

    def output_of(self, run_id: str) -> str:
        """Return the address that the batch of a run on Kubeflow writes to, '' if `run_id` is not one of a batch."""
        config = self.api.run(run_id).runtime_config if re.fullmatch(UUID, run_id) else None
        return str(((config and config.parameters) or {}).get("output", ""))  # which no other definition has

    def follow(self, run_id: str, watch: Watch) -> Json:
        """Watch a run of the definition to its end; return and raise as `predict`."""
        homes.claim(self.settings.home)
        logs = self.settings.home / "logs"
        logs.mkdir(exist_ok=True)
        last = self._to_end(run_id, {step: StepState() for step in BATCH_STEPS}, watch, logs)
        step = BATCH_STEPS[-1]
        events = events_of(self._log(logs, run_id, last, step), step)
        outputs = [event.get("outputs") for event in events if event["event"] == "outputs"]
        return outputs[-1] if outputs and isinstance(outputs[-1], dict) else {}
