"""The last probe: a real run of the pipeline on Kubeflow, small enough for minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from backends.acceptance.probe import Context, NotAsked
from backends.base import Request
from digits.data.catalog import FALLBACK
from digits.errors import DigitsError, MissingError
from digits.events import Event
from digits.findings import Finding

# scikit-learn's digits are in the image. A release of them never replaces one trained on MNIST.
PARAMETERS = {"dataset": FALLBACK, "epochs": 1, "experiment": "digits-acceptance"}
RUN_SECONDS = 3600.0


def probe_run(context: Context) -> Iterator[Finding]:
    """Run the pipeline, and delete the run on Kubeflow if it succeeded; a failed one stays for its logs."""
    try:
        from kfp import kubernetes  # noqa: F401 # for the compiler

        from backends import runs
        from backends.kubeflow.backend import KubeflowBackend
    except ImportError as exc:
        raise NotAsked(
            f"{exc.name} is not installed in this image: submit a run from a machine with digits[pipeline]"
        ) from exc

    def watch(event: Event) -> None:
        if event["event"] == "run":
            run_id = runs.find(context.settings.home, event["id"]).record()["kubeflow_run"]
            context.cancel = lambda: backend.api.terminate(run_id)
            if context.stopped.is_set():  # while the run was submitted
                context.cancel()

    with contextlib.closing(KubeflowBackend(context.settings)) as backend:
        backend.check()
        result = backend.run(Request(PARAMETERS), watch)
        version = result.outputs.get("published", {}).get("version", "unknown, because the log is not available")
        yield Finding("run", True, f"run {result.run_id} succeeded in {result.seconds:.0f} s; its release is {version}")
        run_id = runs.find(context.settings.home, result.run_id).record()["kubeflow_run"]
        backend.api.delete(run_id)
        try:
            backend.api.run(run_id)
        except MissingError:
            raise
        except DigitsError:
            yield Finding("removed", True, f"Kubeflow has no run {run_id} any more; release and experiment stay")
        else:
            raise DigitsError(f"Kubeflow still has the run {run_id}", remedy="delete it on Kubeflow's page")
