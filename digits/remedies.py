"""Remedies that depend on the backend: what leads out on a laptop may be wrong on Kubeflow."""

from __future__ import annotations

from string import Template

FORWARD = "outside of the cluster: kubectl -n $namespace port-forward deployment/$name-predictor 8081:8080"
# {situation: {backend: what to try}}; the backend '' stands for all others.
REMEDIES = {
    "no cluster": {
        "": "digits cluster up, or copy the kubeconfig of your own cluster to $path",
        "kubeflow": "copy a kubeconfig of Kubeflow's cluster to $path",
    },
    "no KServe": {
        "": "digits cluster up",
        "kubeflow": "create the namespace, or ask the cluster's administrator for KServe in Standard mode; "
        "docs/kubeflow.md has the versions",
    },
    "no answer of the cluster": {
        "": "digits cluster up, which also starts a kind cluster that was stopped",
        "kubeflow": "check the address in the kubeconfig in DIGITS_HOME: kubectl cluster-info",
    },
    "credentials of the cluster": {
        "": "digits cluster up, which renews the kubeconfig of the kind cluster; or copy a new one of yours to $path",
        "kubeflow": "renew the credentials in $path: they are wrong or have expired",
    },
    "endpoint is not ready": {
        "": "digits cluster status",
        "kubeflow": "kubectl -n $namespace describe inferenceservice $name",
    },
    "endpoint is not restored": {
        "": "digits cluster status, then deploy again, or digits cluster rollback",
        "kubeflow": "kubectl -n $namespace describe inferenceservice $name, then digits promote VERSION, or "
        "digits rollback",
    },
    "no endpoint": {
        "": "digits run, or --endpoint URL",
        "kubeflow": "copy a kubeconfig of Kubeflow's cluster to $path, or --endpoint URL",
    },
    "no answer of the endpoint": {
        "": "digits up, or digits doctor",
        "kubeflow": f"{FORWARD}, then --endpoint http://127.0.0.1:8081",
    },
    "champion is not verified at the endpoint": {
        "": "digits run, which serves the champion; or digits doctor",
        "kubeflow": f"{FORWARD}, then digits verify http://127.0.0.1:8081",
    },
    "no object store in the cluster": {
        "": "digits cluster up",
        "kubeflow": "set DIGITS_STORE and MINIO_* to the store of Kubeflow, as this machine reaches it",
    },
    "variable not set": {
        "": "export $name=…",
        "kubeflow": "for the steps: kubectl apply --server-side -k manifests/overlays/kubeflow, in the namespace of "
        "the run; for this machine: export $name=…",
    },
    "to draw": {
        "": "digits up --backend $backend",
        "process": "digits up",
        "kubeflow": "kubectl -n $namespace port-forward svc/web 8000:80",
    },
}


def remedy(situation: str, backend: str, **values: object) -> str:
    """Return what to try in a situation of REMEDIES on a backend. `values` replace the $names of the text."""
    texts = REMEDIES[situation]
    return Template(texts.get(backend, texts[""])).substitute(values, backend=backend)
