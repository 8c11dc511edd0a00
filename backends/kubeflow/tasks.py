"""What a task needs on Kubeflow alone: image, settings and credentials, limits, and who it runs as.

Nothing of it is a value of this machine: settings come from a ConfigMap and credentials from a Secret of the run's
namespace, when a step starts. What is absent there is left out, and the step then says what it misses; a required
key that is absent would keep its pod waiting for ever instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from digits import __version__, events
from digits.errors import UsageError
from digits.release import mlflow_log
from digits.settings import STEP_VARIABLES, Settings
from digits.store import schemes

STEPS_IMAGE = f"digits-python-steps:{__version__}"
USER = 1000  # of our images
HOME = "/tmp/digits"  # noqa: S108 # in the pod: the one place that any user may write to
PULL_POLICIES = ("Always", "IfNotPresent", "Never")

# Keys of the Secret, and the variables they become. KServe reads the same Secret.
SECRET_KEYS = {key: name for scheme in schemes().values() for key, name in scheme.secrets.items()}
MLFLOW_SECRET = {name: name for name in mlflow_log.CREDENTIALS}


@dataclass(frozen=True)
class Needs:
    """CPUs and memory that a step asks for and may use at most, and how many seconds its pod may live."""

    cpu: str
    memory: str
    most_cpu: str
    most_memory: str
    seconds: int = 30 * 60


NEEDS = {
    "fetch-mnist": Needs("100m", "256Mi", "1", "1Gi"),
    "collect-feedback": Needs("100m", "256Mi", "1", "1Gi"),
    "prepare": Needs("100m", "512Mi", "1", "1Gi"),
    "train": Needs("500m", "1Gi", "", "", seconds=6 * 3600),  # at most: by settings
    "evaluate": Needs("250m", "512Mi", "2", "1Gi"),
    "publish": Needs("250m", "512Mi", "2", "2Gi"),
    "deploy": Needs("100m", "256Mi", "1", "1Gi"),
}

# Their results depend on external inputs: the available data and the corrections. The definition excludes `deploy`.
OF_THE_WORLD = ("fetch-mnist", "collect-feedback")

Configure = Callable[[Any], Any]


def configure_task(settings: Settings, uncached: Sequence[str] = OF_THE_WORLD) -> Configure:
    """What sets on each task of the definition what Kubeflow needs.

    Args:
        settings: those in force.
        uncached: steps that are never taken from the cache. Whoever starts a run from what is compiled (a schedule,
            somebody on Kubeflow's page) gives no digest of the world, so these steps look at it each time.

    Raises:
        UsageError: a setting is not what Kubernetes takes.
    """
    if settings.pull_policy not in PULL_POLICIES:
        raise UsageError(
            f"DIGITS_PULL_POLICY: expected one of {', '.join(PULL_POLICIES)}, got {settings.pull_policy!r}"
        )
    node = _labels(settings.train_node)

    def configure(task: Any) -> None:
        from kfp import kubernetes

        step = task.name
        _environment(task, settings)
        _limits(task, NEEDS[step], settings)
        if step in uncached:
            task.set_caching_options(enable_caching=False)
        task.set_container_image(settings.steps_image or STEPS_IMAGE)
        kubernetes.set_image_pull_policy(task, settings.pull_policy)
        if settings.pull_secret:
            kubernetes.set_image_pull_secrets(task, [settings.pull_secret])
        # Kubeflow itself adds: no privilege escalation, no capability, the runtime's default seccomp profile.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        if settings.step_retries:
            task.set_retry(settings.step_retries, backoff_duration="10s", backoff_factor=2, backoff_max_duration="120s")
        if step == "train":
            if settings.train_gpus:
                task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(settings.train_gpus)
            for key, value in node.items():
                kubernetes.add_node_selector(task, key, value)

    return configure


def _environment(task: Any, settings: Settings) -> None:
    from kfp import kubernetes

    variables = {
        "DIGITS_HOME": HOME,
        "DIGITS_DEPLOYER": settings.deployer or "kserve",
        "K8S_NAMESPACE": settings.namespace,
        events.VARIABLE: "/dev/stdout",  # what a step tells is read back from its pod's log
        # Kubernetes sets NAME_PORT for each Service of the namespace: one called digits would change these settings.
        "DIGITS_PORT": str(Settings.port),
        "DIGITS_GRPC_PORT": str(Settings.grpc_port),
        "DIGITS_WEB_PORT": str(Settings.web_port),
        "HOME": "/tmp",  # noqa: S108 # libraries keep caches there
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
    }
    for name, value in variables.items():
        task.set_env_variable(name, value)
    # No variable may come from two places: Kubeflow merges the two into one that Kubernetes refuses.
    ours = not settings.kfp_mlflow
    secret = SECRET_KEYS | (MLFLOW_SECRET if ours else {})
    elsewhere = {*variables, *SECRET_KEYS.values(), *(() if ours else ("MLFLOW_TRACKING_URI",))}
    config = {name: name for name in STEP_VARIABLES if name not in elsewhere}
    kubernetes.use_secret_as_env(task, settings.secret_name, secret, optional=True)
    kubernetes.use_config_map_as_env(task, settings.config_map, config, optional=True)


def _limits(task: Any, needs: Needs, settings: Settings) -> None:
    from kfp import kubernetes

    task.set_cpu_request(needs.cpu).set_memory_request(needs.memory)
    task.set_cpu_limit(needs.most_cpu or settings.train_cpu)
    task.set_memory_limit(needs.most_memory or settings.train_memory)
    kubernetes.set_timeout(task, needs.seconds)  # also ends a pod whose image never comes


def _labels(text: str) -> dict[str, str]:
    labels = {}
    for part in text.split():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"DIGITS_TRAIN_NODE: expected key=value by space, got {part!r}")
        labels[key] = value
    return labels
