"""The configuration of each task for Kubeflow: image, settings, credentials, limits and user.

No value of this machine is compiled. When a step starts, its settings come from a ConfigMap and its credentials from a
Secret of the run's namespace. Both are optional: a step can report a missing setting itself, whereas a pod with a
required key that does not exist would wait forever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backends.kserve.kube import TRUSTED_KEYS
from digits import __version__, events
from digits.errors import UsageError
from digits.release import mlflow_client
from digits.settings import IMAGE_VARIABLE, STEP_VARIABLES, Settings
from digits.store import schemes
from digits.training.trainers import LOCAL, MAX_SECONDS
from pipeline import BATCH_STEPS

STEPS_IMAGE = f"digits-python-steps:{__version__}"
USER = 1000  # of our images
HOME = "/tmp/digits"  # noqa: S108 # in the pod: the only folder that any user can write to
PULL_POLICIES = ("Always", "IfNotPresent", "Never")

# Keys of the Secret and their environment variables. KServe reads the same Secret.
SECRET_KEYS = {key: name for scheme in schemes().values() for key, name in scheme.secrets.items()}
MLFLOW_SECRET = {name: name for name in mlflow_client.CREDENTIALS}


@dataclass(frozen=True)
class Resources:
    """Requested and maximum CPUs and memory of a step's pod, and its deadline in seconds.

    Those of '' are read from the settings.
    """

    cpu: str = "100m"
    memory: str = "256Mi"
    max_cpu: str = "1"
    max_memory: str = "1Gi"
    seconds: int = 30 * 60


# Steps that need more than `Resources()`.
RESOURCES = {
    "prepare": Resources(memory="512Mi"),
    "train": Resources("", "", "", "", seconds=MAX_SECONDS),
    "evaluate": Resources("250m", "512Mi", "2", "1Gi"),
    "publish": Resources("250m", "512Mi", "2", "2Gi"),
} | dict.fromkeys(BATCH_STEPS, Resources("250m", "512Mi", "2", "2Gi", seconds=6 * 3600))

# Kubeflow's cache cannot check what `publish` has written, so it always runs and writes again what is missing. `deploy`
# is never cached either, on any engine.
UNCHECKED_STEPS = ("publish",)
# Besides, steps whose results depend on external inputs: the available data and the corrections.
UNCACHED_STEPS = ("fetch-mnist", "collect-feedback", *UNCHECKED_STEPS)

# The Secret with the private key, and where it is mounted in the step that signs, for DIGITS_SIGNING_KEY.
SIGNING_KEY = ("digits-signing-key", "/etc/digits/signing-key")

Configure = Callable[[Any], Any]


def configure_task(settings: Settings, uncached: Sequence[str] = UNCACHED_STEPS) -> Configure:
    """Return a function that configures a task of the definition for Kubeflow.

    The steps `uncached` are never taken from the cache: a run that a schedule or a user on Kubeflow's page starts from
    the compiled pipeline has no digest of the external inputs.

    Raises:
        UsageError: Kubernetes does not accept the value of a setting.
    """
    if settings.pull_policy not in PULL_POLICIES:
        raise UsageError(
            f"DIGITS_PULL_POLICY: expected one of {', '.join(PULL_POLICIES)}, got {settings.pull_policy!r}"
        )
    node_labels = parse_labels(settings.train_node)
    _check_quantities("DIGITS_TRAIN_CPU", settings.train_cpu_request, settings.train_cpu, r"\d+(\.\d+)?m?")
    _check_quantities(
        "DIGITS_TRAIN_MEMORY", settings.train_memory_request, settings.train_memory, r"\d+(\.\d+)?([EPTGMK]i?)?"
    )

    def configure(task: Any) -> None:
        from kfp import kubernetes

        _set_environment(task, settings)
        trains_here = task.name == "train" and settings.trainer == LOCAL
        resources = RESOURCES.get(task.name, Resources())
        if task.name == "train" and not trains_here:  # it waits, and its trainer reads the settings for the training
            resources = Resources(seconds=resources.seconds)
        _set_limits(task, resources, settings)
        if task.name in uncached:
            task.set_caching_options(enable_caching=False)
        task.set_container_image(settings.steps_image or STEPS_IMAGE)
        if task.name in {"train", "publish", "deploy", *BATCH_STEPS}:  # train checks them
            kubernetes.use_config_map_as_volume(task, *TRUSTED_KEYS, optional=True)
        if task.name == "publish":
            kubernetes.use_secret_as_volume(task, *SIGNING_KEY, optional=True)
        kubernetes.set_image_pull_policy(task, settings.pull_policy)
        if settings.pull_secret:
            kubernetes.set_image_pull_secrets(task, [settings.pull_secret])
        # Kubeflow itself adds: no privilege escalation, no capability, the runtime's default seccomp profile.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        if settings.step_retries:
            task.set_retry(settings.step_retries, backoff_duration="10s", backoff_factor=2, backoff_max_duration="120s")
        if trains_here:
            if settings.train_gpus:
                task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(settings.train_gpus)
            for key, value in node_labels.items():
                kubernetes.add_node_selector(task, key, value)

    return configure


def _set_environment(task: Any, settings: Settings) -> None:
    from kfp import kubernetes

    variables = {
        "DIGITS_HOME": HOME,
        "DIGITS_BACKEND": "kubeflow",
        "DIGITS_STEP_RETRIES": str(settings.step_retries),
        "DIGITS_DEPLOYER": settings.deployer or "kserve",
        "DIGITS_TRAINER": settings.trainer,
        "DIGITS_WORKERS": str(settings.workers),
        "K8S_NAMESPACE": settings.namespace,
        IMAGE_VARIABLE: settings.steps_image or STEPS_IMAGE,
        events.VARIABLE: "/dev/stdout",  # the events of a step are read from its pod's log
        # Kubernetes sets NAME_PORT for each Service of the namespace, so a Service called digits would change these.
        "DIGITS_PORT": str(Settings.port),
        "DIGITS_GRPC_PORT": str(Settings.grpc_port),
        "DIGITS_WEB_PORT": str(Settings.web_port),
        "HOME": "/tmp",  # noqa: S108 # libraries write caches there
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }
    if task.name == "train" and settings.trainer != LOCAL:
        of_training = {name: value for name, value in settings.environ().items() if name.startswith("DIGITS_TRAIN_")}
        variables |= {name: value for name, value in of_training.items() if name not in STEP_VARIABLES}
    task.container_spec.env = variables  # set_env_variable inspects the whole stack of frames at each call
    # Each variable has one source, because Kubernetes refuses what Kubeflow merges from two.
    our_mlflow = not settings.kfp_mlflow
    secret = SECRET_KEYS | (MLFLOW_SECRET if our_mlflow else {})
    other_sources = {*variables, *SECRET_KEYS.values(), *(() if our_mlflow else ("MLFLOW_TRACKING_URI",))}
    config = {name: name for name in STEP_VARIABLES if name not in other_sources}
    kubernetes.use_secret_as_env(task, settings.secret_name, secret, optional=True)
    kubernetes.use_config_map_as_env(task, settings.config_map, config, optional=True)


def _set_limits(task: Any, resources: Resources, settings: Settings) -> None:
    from kfp import kubernetes

    task.set_cpu_request(resources.cpu or settings.train_cpu_request)
    task.set_memory_request(resources.memory or settings.train_memory_request)
    task.set_cpu_limit(resources.max_cpu or settings.train_cpu)
    task.set_memory_limit(resources.max_memory or settings.train_memory)
    kubernetes.set_timeout(task, resources.seconds)  # also ends a pod whose image cannot be pulled


def _check_quantities(variable: str, request: str, limit: str, form: str) -> None:
    """Raise UsageError unless both are quantities of that form, and the request is at most the limit."""
    from kubernetes.utils.quantity import parse_quantity

    for name, value in ((f"{variable}_REQUEST", request), (variable, limit)):
        if not re.fullmatch(form, value):
            raise UsageError(f"{name}: expected a quantity of Kubernetes such as 2, 500m or 3Gi, got {value!r}")
    if parse_quantity(request) > parse_quantity(limit):
        raise UsageError(
            f"{variable}: expected at least the request {request}, got {limit}; Kubernetes refuses such a pod",
            remedy=f"lower {variable}_REQUEST, or raise {variable}",
        )


def parse_labels(text: str) -> dict[str, str]:
    """Return the labels in the value of DIGITS_TRAIN_NODE. Raises UsageError if it is not of that form."""
    labels = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"DIGITS_TRAIN_NODE: expected key=value pairs separated by spaces, got {part!r}")
        labels[key] = value
    return labels
