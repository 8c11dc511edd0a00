"""The checks before a training on Kubeflow: what makes `publish` or `deploy` fail and can be known before it.

On this machine a run is checked before its first step (`backends.local`). Kubeflow's steps have other settings, keys,
store and MLflow than the machine that submits them, so the train step checks these itself. It is not run if its result
is in the cache; then no training is lost.
"""

from __future__ import annotations

import contextlib

from digits import events
from digits.errors import MissingError, StoreError
from digits.release import deploy, ledger, mlflow_registry, signatures
from digits.settings import Settings
from digits.store import open_store


def check(task: str) -> None:
    """Check deployer, trusted keys, ledger and registered model of a task, in a step on Kubeflow only.

    A store or an MLflow that does not answer may do so when it is needed.

    Raises:
        UsageError: a key is damaged, or the registered model belongs to another project.
        MissingError: the deployer or a trusted key does not exist.
        ReleaseError: the ledger is damaged.
    """
    settings = Settings.load().with_task(task)
    if settings.backend != "kubeflow":
        return
    with events.reported("train"):
        deploy.find_deployer(settings.deployer or deploy.FOLLOW)
        if settings.trusted_keys:
            signatures.read_keys(settings.trusted_keys)
        with contextlib.suppress(StoreError, MissingError):
            ledger.entries(open_store(settings))
        with contextlib.suppress(MissingError):
            mlflow_registry.check_model(settings)
