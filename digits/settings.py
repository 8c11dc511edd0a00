"""The settings: one frozen class, read from environment variables and the file `.env`.

Each setting is declared once. `digits doctor`, docs/configuration.md and the environment of a step derive from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from digits import events, files, variables
from digits.errors import MASK, UsageError, mask_address
from digits.tasks.task import BUILT_IN, Task, built_in_names, find
from digits.variables import check_address, check_kubernetes_name, check_tracking_uri, convert, read_variables

# Each backend's module and class; `backends.open_backend` imports them.
BACKENDS = {
    "process": "backends.process.backend:ProcessBackend",
    "docker": "backends.docker.backend:DockerBackend",
    "kubeflow": "backends.kubeflow.backend:KubeflowBackend",
}
ENDPOINT_VARIABLE = "DIGITS_ENDPOINT"  # address of the predictor that the deploy step waits for
IMAGE_VARIABLE = "DIGITS_STEP_IMAGE"  # image of the step, for a release's provenance
# Variables that are not settings: backends set the first three for the steps, the tests read the last.
INTERNAL_VARIABLES = (ENDPOINT_VARIABLE, events.VARIABLE, IMAGE_VARIABLE, "DIGITS_REQUIRE")


def _setting(
    name: str, default: Any, doc: str, *, secret: bool = False, steps: bool = False, maximum: int = 65535
) -> Any:
    """Declare a setting with the environment variable `name`. The type of `default` is the setting's type.

    `secret` values are masked wherever settings are shown. Backends pass only settings with `steps` into a container or
    pod. `maximum` is the largest value of a number.
    """
    metadata = {"name": name, "doc": doc, "secret": secret, "steps": steps, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, repr=False)
class Settings:
    """The settings of one installation: `Settings.load()` reads them; tests pass values to the constructor."""

    home: Path = _setting(
        "DIGITS_HOME",
        files.user_path("~/.digits"),
        "folder of runs, cache, the local store and MLflow's database",
        steps=True,
    )
    task: str = _setting(
        "DIGITS_TASK", BUILT_IN, f"what is recognised: {', '.join(built_in_names())}, or a task file", steps=True
    )
    data: str = _setting(
        "DIGITS_DATA",
        "",
        "folder, URL or s3:// address of the data set's files; empty: cache, then mirrors",
        steps=True,
    )
    store: str = _setting(
        "DIGITS_STORE", "", "file:///folder or s3://bucket; empty: a folder in DIGITS_HOME", steps=True
    )
    backend: str = _setting("DIGITS_BACKEND", "process", f"where the pipeline runs: {', '.join(BACKENDS)}")
    tracking_uri: str = _setting(
        "MLFLOW_TRACKING_URI",
        "",
        "MLflow server or sqlite:////file; empty: SQLite in DIGITS_HOME, on Kubeflow none",
        steps=True,
    )
    mlflow_model: str = _setting(
        "DIGITS_MLFLOW_MODEL", "", "name of the registered model in MLflow; empty: the task's name", steps=True
    )
    minio_endpoint: str = _setting(
        "MINIO_ENDPOINT", "", "host:port or URL of the S3 server behind s3:// addresses", steps=True
    )
    minio_access_key: str = _setting("MINIO_ACCESS_KEY", "", "access key of that server", secret=True, steps=True)
    minio_secret_key: str = _setting("MINIO_SECRET_KEY", "", "secret key of that server", secret=True, steps=True)
    minio_region: str = _setting(
        "MINIO_REGION",
        "",
        "region that requests are signed for; empty: us-east-1, or the one that the server reports",
        steps=True,
    )
    minio_session_token: str = _setting(
        "MINIO_SESSION_TOKEN", "", "session token of temporary keys (AWS STS)", secret=True, steps=True
    )
    trusted_keys: str = _setting(
        "DIGITS_TRUSTED_KEYS",
        "",
        "file or folder of public keys: only what one of them signed is served; empty: no signature is needed",
        steps=True,
    )
    signing_key: str = _setting(
        "DIGITS_SIGNING_KEY", "", "file of the private key that signs releases and the ledger", steps=True
    )
    port: int = _setting("DIGITS_PORT", 8080, "REST port of the predictor that this machine runs")
    grpc_port: int = _setting("DIGITS_GRPC_PORT", 8081, "gRPC port of the predictor that this machine runs")
    web_port: int = _setting("DIGITS_WEB_PORT", 8000, "port of the drawing page")
    endpoints: str = _setting(
        "DIGITS_ENDPOINTS",
        "",
        "endpoints of the page, [name=]url[@host] separated by spaces; empty: the local predictor",
    )
    deployer: str = _setting(
        "DIGITS_DEPLOYER", "", "entry point that deploys a release; empty: the backend's", steps=True
    )
    endpoint_token: str = _setting("DIGITS_ENDPOINT_TOKEN", "", "bearer token sent to the endpoint", secret=True)
    namespace: str = _setting(
        "K8S_NAMESPACE", "digits", "Kubernetes namespace of runs and of the InferenceService", steps=True
    )
    base_image: str = _setting("DIGITS_BASE_IMAGE", "", "Python base image of our images; empty: a public one")
    minio_image: str = _setting("DIGITS_MINIO_IMAGE", "", "MinIO image of the docker backend; empty: built from source")
    kind_node_image: str = _setting("DIGITS_KIND_NODE_IMAGE", "", "node image of the kind cluster; empty: kind's own")
    kind_config: str = _setting("DIGITS_KIND_CONFIG", "", "kind's configuration file; empty: kind's defaults")
    kserve_manifest: str = _setting(
        "DIGITS_KSERVE_MANIFEST", "", "file or URL of KServe's manifest; empty: KServe's release"
    )
    kserve_images: str = _setting(
        "DIGITS_KSERVE_IMAGES", "", "images to load into kind before KServe, separated by spaces"
    )
    trainer_manifest: str = _setting(
        "DIGITS_TRAINER_MANIFEST", "", "file or URL of Kubeflow Trainer's manifest; empty: Trainer's release"
    )
    trainer_images: str = _setting(
        "DIGITS_TRAINER_IMAGES", "", "images to load into kind before Trainer, separated by spaces"
    )
    kfp_host: str = _setting("DIGITS_KFP_HOST", "", "address of the Kubeflow Pipelines API")
    kfp_ui: str = _setting(
        "DIGITS_KFP_UI",
        "",
        "address of Kubeflow's page, for the addresses of runs; empty: DIGITS_KFP_HOST behind a gateway",
    )
    kfp_token: str = _setting("DIGITS_KFP_TOKEN", "", "bearer token for that API", secret=True)
    kfp_token_file: str = _setting(
        "DIGITS_KFP_TOKEN_FILE",
        "",
        "file with that token, read again when it expires; empty: the one of a Kubeflow notebook",
    )
    kfp_cookie: str = _setting("DIGITS_KFP_COOKIE", "", "session cookie for that API, name=value", secret=True)
    kfp_ca: str = _setting("DIGITS_KFP_CA", "", "file with the certificate authorities of that API")
    kfp_service_account: str = _setting(
        "DIGITS_KFP_SERVICE_ACCOUNT", "", "service account of a run's pods; empty: Kubeflow's"
    )
    kfp_mlflow: int = _setting(
        "DIGITS_KFP_MLFLOW", 0, "1: Kubeflow's MLflow plugin sets MLFLOW_TRACKING_URI for the steps", maximum=1
    )
    steps_image: str = _setting("DIGITS_STEPS_IMAGE", "", "image of the steps; empty: ours of this version")
    pull_policy: str = _setting(
        "DIGITS_PULL_POLICY", "IfNotPresent", "pull policy of the steps' image: Always, IfNotPresent or Never"
    )
    pull_secret: str = _setting("DIGITS_PULL_SECRET", "", "Kubernetes Secret for the registry of the steps' image")
    secret_name: str = _setting("DIGITS_SECRET", "minio-kserve-secret", "Kubernetes Secret with the S3 credentials")
    config_map: str = _setting("DIGITS_CONFIG_MAP", "digits-settings", "Kubernetes ConfigMap with the steps' settings")
    step_retries: int = _setting(
        "DIGITS_STEP_RETRIES",
        1,
        "how often a step on Kubeflow is tried again after a server did not answer, or its pod was lost",
        maximum=100,
    )
    trainer: str = _setting(
        "DIGITS_TRAINER", "local", "where the train step trains: local, or the name of an installed trainer", steps=True
    )
    workers: int = _setting(
        "DIGITS_WORKERS", 0, "number of processes that train together; 0: one, without shards", steps=True, maximum=64
    )
    train_cpu_request: str = _setting("DIGITS_TRAIN_CPU_REQUEST", "250m", "CPU request of the train step on Kubeflow")
    train_memory_request: str = _setting(
        "DIGITS_TRAIN_MEMORY_REQUEST", "1Gi", "memory request of the train step on Kubeflow"
    )
    train_cpu: str = _setting("DIGITS_TRAIN_CPU", "2", "CPU limit of the train step on Kubeflow")
    train_memory: str = _setting("DIGITS_TRAIN_MEMORY", "3Gi", "memory limit of the train step on Kubeflow")
    train_gpus: int = _setting(
        "DIGITS_TRAIN_GPUS", 0, "GPUs (nvidia.com/gpu) of the train step on Kubeflow", maximum=100
    )
    train_node: str = _setting(
        "DIGITS_TRAIN_NODE", "", "node labels of the train step on Kubeflow, key=value separated by spaces"
    )
    train_queue: str = _setting(
        "DIGITS_TRAIN_QUEUE", "", "queue of Kueue that admits TrainJobs; empty: they start without one", steps=True
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Self:
        """Read the settings from `environ`, by default os.environ, and from the file `dotenv`, if it exists.

        A variable of `environ` overrides the line NAME=value of the file.

        Raises:
            UsageError: a value is invalid, or the file cannot be read.
        """
        variables = read_variables(environ, dotenv)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            raw = variables.get(field.metadata["name"], "").strip()
            if raw:
                values[field.name] = convert(field.metadata["name"], raw, type(field.default))
        return cls(**values)

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", variables.check_home(self.home))
        declaration = find(self.task)
        if self.task not in built_in_names():  # by its text from now on, because steps run in other folders
            object.__setattr__(self, "task", declaration.with_place("").text())
        if declaration.data.place:
            object.__setattr__(self, "data", declaration.data.place)
        object.__setattr__(self, "mlflow_model", self.mlflow_model or declaration.name)
        if not self.store:
            object.__setattr__(self, "store", (self.home / "store").as_uri())
        if not self.tracking_uri and self.backend != "kubeflow":
            object.__setattr__(self, "tracking_uri", self._database)
        for name in ("trusted_keys", "signing_key"):
            if place := getattr(self, name):  # steps run in other folders
                object.__setattr__(self, name, str(files.user_path(place, f"DIGITS_{name.upper()}").absolute()))
        for field in dataclasses.fields(self):
            value, maximum = getattr(self, field.name), field.metadata["maximum"]
            if isinstance(value, int) and not 0 <= value <= maximum:
                raise UsageError(f"{field.metadata['name']}: expected a number from 0 to {maximum}, got {value}")
            if field.name in {"store", "tracking_uri", "minio_endpoint", "data", "kfp_host", "kfp_ui"}:
                check_address(field.metadata["name"], value)
            if field.name in {"secret_name", "config_map", "kfp_service_account", "pull_secret", "train_queue"}:
                check_kubernetes_name(field.metadata["name"], value)
        if self.port and self.port == self.grpc_port:  # 0 is any free port
            raise UsageError(f"DIGITS_PORT and DIGITS_GRPC_PORT: expected two different ports, got {self.port} twice")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", self.namespace):
            raise UsageError(f"K8S_NAMESPACE: expected lower-case letters, digits and hyphens, got {self.namespace!r}")
        for field in dataclasses.fields(self):
            value = str(getattr(self, field.name))
            if field.metadata["secret"] and not (value.isascii() and value.isprintable()):
                raise UsageError(f"{field.metadata['name']}: expected printable ASCII characters, got others")
        if self.backend not in BACKENDS:
            raise UsageError(f"DIGITS_BACKEND: expected one of {', '.join(BACKENDS)}, got {self.backend!r}")
        for name, value in (("DIGITS_STORE", self.store), ("DIGITS_DATA", self.data)):
            if urlsplit(value).scheme == "file":
                files.folder_from_url(value, name)
        check_tracking_uri(self.tracking_uri, self._database)
        variables.check_model_name("DIGITS_MLFLOW_MODEL", self.mlflow_model)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value, _ in self.describe())})"

    def environ(self) -> dict[str, str]:
        """Return {variable: value}, the environment of a child process. It holds secrets: never print or store it."""
        return {f.metadata["name"]: str(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @property
    def _database(self) -> str:
        """Return the address of the database that is used if MLFLOW_TRACKING_URI is empty."""
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def declaration(self) -> Task:
        """Return the task. The place of its data is in `data`."""
        return find(self.task)

    def with_task(self, task: str) -> Self:
        """Return these settings for another task, given as for DIGITS_TASK."""
        mlflow_model = "" if self.mlflow_model == self.declaration.name else self.mlflow_model
        return dataclasses.replace(self, task=task, mlflow_model=mlflow_model)

    def with_backend(self, backend: str) -> Self:
        """Return these settings for another backend, which has a default of MLFLOW_TRACKING_URI of its own."""
        tracking_uri = "" if self.tracking_uri == self._database else self.tracking_uri
        return dataclasses.replace(self, backend=backend, tracking_uri=tracking_uri)

    def with_minio(self, endpoint: str, access_key: str, secret_key: str) -> Self:
        """Return these settings with the bucket `digits` of a MinIO server of ours as the store."""
        return dataclasses.replace(
            self,
            store="s3://digits",
            minio_endpoint=endpoint,
            minio_access_key=access_key,
            minio_secret_key=secret_key,
            minio_region="",
            minio_session_token="",
        )

    def describe(self) -> list[tuple[str, str, str]]:
        """Return (variable, value with secrets masked, meaning) for each setting."""
        rows = []
        for field in dataclasses.fields(self):
            value = self.declaration.name if field.name == "task" else str(getattr(self, field.name))
            shown = MASK if field.metadata["secret"] and value else mask_address(value)
            rows.append((field.metadata["name"], shown, field.metadata["doc"]))
        return rows


STEP_VARIABLES = tuple(field.metadata["name"] for field in dataclasses.fields(Settings) if field.metadata["steps"])


def unknown(environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> dict[str, str]:
    """Return {variable DIGITS_... that is not a setting: the most similar setting, or ''}; see `load`."""
    settings = [field.metadata["name"] for field in dataclasses.fields(Settings)]
    names = {name for name in read_variables(environ, dotenv) if name.startswith("DIGITS_")}
    names -= {*settings, *INTERNAL_VARIABLES}
    return {name: next(iter(difflib.get_close_matches(name, settings, 1, 0.8)), "") for name in sorted(names)}
