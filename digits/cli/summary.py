"""What `digits run` and `digits up` print at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from digits.cli.common import wrap

if TYPE_CHECKING:
    from backends.base import Result
    from digits.settings import Settings


def summary(result: Result, settings: Settings, *, following: bool = True) -> dict[str, Any]:
    """Print how a run ended and, if it is `following`, what to do next; returns it as the object of `--json`."""
    from digits.steps import plain

    if not result.outputs:  # Kubeflow has them, and the pods that told them are gone
        steps = {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()}
        click.echo("\n  succeeded; what the steps answered is on the run's page", err=True)
        return {"run": result.run_id, "state": result.state, "backend": settings.backend, "steps": steps}
    published = result.outputs["published"]
    accuracy = published["accuracy"]
    report = settings.home / "runs" / result.run_id / "report.html"
    answer = {
        "run": result.run_id,
        "state": result.state,
        "backend": settings.backend,
        "seconds": round(result.seconds, 2),
        "steps": {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()},
        "accuracy": accuracy,
        "release": published["version"],
        "digest": published["digest"],
        "promoted": published["promoted"],
        "why": published["why"],
        "champion": published["champion"],
        "data": plain(result.outputs["data"] | {"feedback": result.outputs["feedback"]}),
        "training_seconds": result.outputs["trained"]["seconds"],
        "mlflow_run": published["mlflow_run"],
        "endpoint": result.outputs["deployed"]["endpoint"],
        "report": str(report) if report.exists() else "",  # Kubeflow's is where MLflow's server can be reached
    }
    draw = {
        "kubeflow": f"kubectl -n {settings.namespace} port-forward svc/web 8000:80",
        "docker": "digits up --backend docker",
    }.get(settings.backend, "digits up")
    standing = "champion" if answer["champion"] == answer["release"] else "kept, not promoted"
    corrections = int(answer["data"].get("feedback", {}).get("count", 0))
    cached = sum(step.state == "cached" for step in result.steps.values())
    trained = (
        "" if result.steps["train"].state == "cached" else f", {answer['training_seconds']:.1f} s of them training"
    )
    _table(
        ("accuracy", f"{accuracy:.2%} on {answer['data']['dataset']}"),
        ("release", f"{published['version']}  {standing}"),
        ("why", published["why"]),
        ("champion", answer["champion"] if answer["champion"] != answer["release"] else ""),
        ("feedback", f"{corrections} corrected drawing{'s' * (corrections > 1)} collected" if corrections else ""),
        ("endpoint", answer["endpoint"] + _moved(answer["endpoint"], settings)),
        ("report", "digits report" if answer["report"] else "on the run's page"),
        (
            "time",
            f"{result.seconds:.1f} s{trained}"
            + (f"; {cached} of {len(result.steps)} steps from the cache" if cached else ""),
        ),
        ("next", (f"{draw}   to draw" if answer["endpoint"] else "digits releases") if following else ""),
    )
    return answer


def _moved(endpoint: str, settings: Settings) -> str:
    """That the endpoint is not where DIGITS_PORT says, for another program is."""
    parts = urlsplit(endpoint)
    moved = parts.hostname == "127.0.0.1" and parts.port != settings.port
    return f"   (port {settings.port} was taken)" if moved else ""


def _table(*rows: tuple[str, str]) -> None:
    """Rows of a name and a value; those without a value are left out."""
    click.echo("", err=True)
    for name, value in rows:
        if value:
            click.echo(f"  {click.style(f'{name:<10}', dim=True)} {wrap(value, 13)}", err=True)
