"""One TrainJob of Kubeflow Trainer: it is created, watched until it ends, and deleted with its pods.

The TrainingRuntime in `manifests/components/trainer` defines the pods. If one of them ends, JobSet starts all of them
again. The TrainJob belongs to the pod of the step, so Kubernetes deletes both together.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from backends.kserve.diagnosis import diagnose_pod
from backends.kserve.kube import Json, Kube, RefusedError, is_temporary
from backends.kserve.revision import LABELS
from backends.kubeflow.tasks import parse_labels
from backends.kubeflow.watch import events_of
from digits import events
from digits.errors import DigitsError, MissingError
from digits.settings import Settings
from digits.training.trainers import MAX_SECONDS

RUNTIME = "digits"  # the TrainingRuntime
CONTAINER = "node"  # of the training, in each pod
PORT = 2222  # of the workers, as in the manifests
POLL_SECONDS = 1.0
OUTAGE_SECONDS = 300.0  # of the API server
REMOVE_SECONDS = 60.0
QUEUE = "kueue.x-k8s.io/queue-name"
LOG_LINES = 200  # of worker 0 per look
MAX_LINE = 300  # characters of a reason that is shown as progress
PODS_OF = "jobset.sigs.k8s.io/jobset-name"  # a label of the pods
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
RANK = "batch.kubernetes.io/job-completion-index"


def hosts(name: str, workers: int) -> list[str]:
    """Return the addresses at which the workers of a TrainJob reach each other."""
    return [f"{name}-node-0-{rank}.{name}:{PORT}" for rank in range(workers)]


def train_job(settings: Settings, name: str, command: Sequence[str], *, image: str, owner: Mapping[str, str]) -> Json:
    """Return a TrainJob that runs `command` in each of its pods.

    `image` is that of the pods, or '' for the TrainingRuntime's. `owner` is {name, uid} of the pod with which the
    TrainJob is deleted.
    """
    limits = {"cpu": settings.train_cpu, "memory": settings.train_memory}
    if settings.train_gpus:
        limits["nvidia.com/gpu"] = str(settings.train_gpus)
    # Where only signed content counts there are no checkpoints.
    environment = {"DIGITS_TASK": settings.task, "DIGITS_TRUSTED_KEYS": settings.trusted_keys}
    trainer: Json = {
        "numNodes": max(1, settings.workers),
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resourcesPerNode": {
            "requests": {"cpu": settings.train_cpu_request, "memory": settings.train_memory_request},
            "limits": limits,
        },
    }
    if image:
        trainer["image"] = image
    node = {"nodeSelector": parse_labels(settings.train_node)}
    patched = {"name": "node", "template": {"spec": {"template": {"spec": node}}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": LABELS | ({QUEUE: settings.train_queue} if settings.train_queue else {}),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", **owner}],
        },
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": RUNTIME},
            "activeDeadlineSeconds": MAX_SECONDS,
            "trainer": trainer,
            "runtimePatches": [
                {
                    "manager": "digits.org/train-step",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patched]}}},
                }
            ],
        },
    }


class TrainJob:
    """One TrainJob in one namespace. The progress of worker 0 is repeated as the progress of the step `train`."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self.kube, self.namespace, self.name = kube, namespace, name
        self._jobs = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._reported: dict[str, float] = {}  # by pod: the time of the last event that was repeated
        self._shown: set[str] = set()
        self._message = ""
        self._reasons: list[str] = []  # the last ones why a worker failed or did not start

    def create(self, body: Json) -> None:
        """Create the TrainJob.

        Raises:
            MissingError: the cluster has no Kubeflow Trainer, or does not answer.
            RefusedError: the cluster refused.
        """
        try:
            self.kube.request("POST", self._jobs, body=body)
        except RefusedError as exc:
            if exc.status == 404:
                raise MissingError(
                    f"the cluster {self.kube.server} has no Kubeflow Trainer, or no namespace {self.namespace}",
                    remedy="install Kubeflow Trainer 2.2 or later, or unset DIGITS_TRAINER",
                ) from exc
            if "webhook" in exc.message:
                raise MissingError(
                    exc.message,
                    remedy=f"kubectl -n {self.namespace} get trainingruntime {RUNTIME}; "
                    "it is in manifests/components/trainer",
                ) from exc
            raise

    def wait(self) -> str:
        """Wait until the training has succeeded, and return the termination message of worker 0.

        Raises:
            DigitsError: it failed, was deleted, or took longer than MAX_SECONDS; the message has the reason.
            MissingError: the cluster did not answer for OUTAGE_SECONDS.
            RefusedError: the cluster refused.
        """
        deadline = time.monotonic() + MAX_SECONDS
        answered = time.monotonic()
        while time.monotonic() < deadline:
            try:
                with self.kube.understood():
                    live = self.kube.get(f"{self._jobs}/{self.name}")
                    if self._ended(live, self._report_pods()):
                        return self._message
                answered = time.monotonic()
            except (MissingError, RefusedError) as exc:
                if not is_temporary(exc) or time.monotonic() > answered + OUTAGE_SECONDS:
                    raise
            time.sleep(POLL_SECONDS)
        raise self._failure(f"did not end within {MAX_SECONDS / 3600:.0f} h")

    def delete(self) -> None:
        """Delete the TrainJob, if it exists, and wait up to REMOVE_SECONDS until its pods are gone."""
        deadline, problem = time.monotonic() + REMOVE_SECONDS, ""
        while time.monotonic() < deadline:
            try:
                # Not in the foreground: Trainer creates new pods while a TrainJob that failed is being deleted so.
                self.kube.request("DELETE", f"{self._jobs}/{self.name}", body={"propagationPolicy": "Background"})
            except (MissingError, RefusedError) as exc:
                if not isinstance(exc, RefusedError) or exc.status != 404:
                    problem = exc.message
                    if not is_temporary(exc):
                        break
            with contextlib.suppress(MissingError, RefusedError):
                if not self._workers():
                    return
            time.sleep(POLL_SECONDS)
        self._report(f"pods of TrainJob {self.name} may still exist: {problem}".rstrip(": "))

    def _workers(self) -> list[Json]:
        with self.kube.understood():
            answer = self.kube.request("GET", self._pods, query={"labelSelector": f"{PODS_OF}={self.name}"})
            return list(answer["items"])

    def _ended(self, live: Json | None, permanent: bool) -> bool:
        if live is None or "deletionTimestamp" in live["metadata"]:
            raise self._failure("was deleted")
        for condition in live.get("status", {}).get("conditions", []):
            if condition["status"] == "True" and condition["type"] == "Failed":
                raise self._failure(f"failed: {condition.get('message', '')}")
            if condition["status"] == "True" and condition["type"] == "Complete":
                if not self._message:
                    raise self._failure(
                        "has ended, but the pod of worker 0, which has the digest of its result, is gone"
                    )
                return True
        if permanent:
            raise self._failure("cannot start", remedy="correct what the reason names")
        return False

    def _failure(
        self, what: str, remedy: str = "run again with --resume, which continues from the last checkpoint"
    ) -> DigitsError:
        text = "\n".join([f"TrainJob {self.name} in {self.namespace} {what}", *self._reasons])
        return DigitsError(text, remedy=remedy)

    def _report_pods(self) -> bool:
        """Report the progress of worker 0, and why workers fail or do not start. Return whether they never will."""
        permanent, reasons = False, list[str]()
        for pod in self._workers():
            labels, name = pod["metadata"].get("labels", {}), pod["metadata"]["name"]
            rank, attempt = labels.get(RANK, "?"), labels.get(ATTEMPT, "0")
            if attempt != "0":
                self._report(f"the workers were started again ({attempt})")
            status = pod.get("status", {})
            if rank == "0" and status.get("phase") != "Pending":
                self._repeat_events(name)
            if rank == "0" and status.get("phase") == "Succeeded":
                self._message = _termination_message(status)
            if "deletionTimestamp" not in pod["metadata"]:
                texts, never = diagnose_pod(self.kube, self._pods, pod)
                reasons += [f"worker {rank}: {text}" for text in texts]
                permanent = permanent or never
        for reason in reasons:
            self._report(" ".join(reason.split())[:MAX_LINE])
        self._reasons = reasons or self._reasons
        return permanent

    def _report(self, text: str) -> None:
        """Report a text as progress, once."""
        if text not in self._shown:
            self._shown.add(text)
            events.emit("progress", "train", text=text)

    def _repeat_events(self, pod: str) -> None:
        with contextlib.suppress(DigitsError):  # the log comes with the next look, or the pod was deleted
            log = self.kube.text(f"{self._pods}/{pod}/log", container=CONTAINER, tailLines=LOG_LINES)
            for event in events_of(log, "train"):
                if event["event"] == "progress" and event["time"] > self._reported.get(pod, 0):
                    self._reported[pod] = event["time"]
                    events.emit("progress", "train", text=str(event.get("text", "")))


def _termination_message(status: Json) -> str:
    """Return what the training's container left when it ended. A webhook may have added other containers to the pod."""
    for container in status.get("containerStatuses", []):
        if container["name"] == CONTAINER:
            return str(container["state"].get("terminated", {}).get("message", ""))
    return ""
