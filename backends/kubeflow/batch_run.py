"""Batch prediction on Kubeflow: submit the definition, watch it and return the manifest."""

from __future__ import annotations

from backends.base import StepState, Watch
from backends.kubeflow.backend import KubeflowBackend
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

        homes.claim(self.settings.home)
        logs = self.settings.home / "logs"
        logs.mkdir(exist_ok=True)
        spec = compiled(self.settings, of=build)
        run_id = self.api.submit(spec, unique_name(BATCH), BATCH, parameters)
        last = self._to_end(run_id, {step: StepState() for step in BATCH_STEPS}, watch, logs)
        step = BATCH_STEPS[-1]
        events = events_of(self._log(logs, run_id, last, step), step)
        outputs = [event.get("outputs") for event in events if event["event"] == "outputs"]
        return outputs[-1] if outputs and isinstance(outputs[-1], dict) else {}
