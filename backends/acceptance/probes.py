"""The table of all probes, in the order in which they run."""

from __future__ import annotations

from backends.acceptance.admission import probe_security
from backends.acceptance.cluster_probes import probe_cluster, probe_gpu, probe_kfp, probe_proxy
from backends.acceptance.kserve_probe import probe_kserve
from backends.acceptance.pod import POD_SECONDS, REMOVE_SECONDS, probe_lines, probe_optional, probe_pods
from backends.acceptance.policy_probe import probe_policy
from backends.acceptance.probe import Probe
from backends.acceptance.real_run import RUN_SECONDS, probe_run
from backends.acceptance.trainer_probe import probe_trainer

PROBES = (
    Probe("cluster", "API server, credentials, namespace and nodes", probe_cluster),
    Probe("kserve", "KServe's types, webhooks and mode, and our ServingRuntime", probe_kserve, ("cluster",)),
    Probe("security", "pods of steps and predictors are admitted", probe_security, ("cluster",)),
    Probe(
        "pods",
        "a pod is scheduled and has our images",
        probe_pods,
        ("cluster", "security"),
        seconds=POD_SECONDS + REMOVE_SECONDS,
        creates=True,
    ),
    Probe("policy", "steps and predictors reach DNS and the store", probe_policy, ("cluster", "pods")),
    Probe(
        "s3",
        "a step writes, reads and deletes in the object store",
        probe_lines("s3"),
        ("pods", "policy"),
        creates=True,
    ),
    Probe("mlflow", "a step reaches MLflow", probe_optional("mlflow", "MLFLOW_TRACKING_URI"), ("pods", "policy")),
    Probe(
        "signatures",
        "the keys that sign and that are trusted are intact",
        probe_optional("signatures", "DIGITS_SIGNING_KEY"),
        ("pods",),
    ),
    Probe("kfp", "the Pipelines API answers and accepts our credentials", probe_kfp),
    Probe("trainer", "Kubeflow Trainer's types and controllers", probe_trainer, ("cluster",)),
    Probe("gpu", "nodes have the GPUs that training requests", probe_gpu, ("cluster",)),
    Probe("proxy", "proxies lead where they must", probe_proxy),
    Probe(
        "run",
        "a small run of the pipeline succeeds",
        probe_run,
        ("kserve", "s3", "kfp"),
        seconds=RUN_SECONDS,
        creates=True,
    ),
)

# Those that create nothing in the cluster and need no pod; `digits doctor` runs them.
READING = tuple(probe for probe in PROBES if not probe.creates and "pods" not in probe.needs)
