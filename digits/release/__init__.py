"""Releases, the ledger, the gate, publishing, MLflow, verification and deployment."""
