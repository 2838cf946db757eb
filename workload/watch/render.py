"""Renders all that a Prometheus and a Grafana need, in one of the formats; the queries are the same in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workload.services.rule_files import PAGES, checked, files_at, linked
from workload.watch import folder
from workload.watch.files import as_files
from workload.watch.kubernetes import as_objects

if TYPE_CHECKING:
    from pathlib import Path

    from workload.watch.subject import Subject

Format = Literal["files", "kubernetes"]
LOCAL_PROMETHEUS = "http://127.0.0.1:9090"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the rendered files are used.

    Attributes:
        place: the folder as Prometheus and Grafana, or kubectl, see it.
        prometheus_url: Prometheus as Grafana reaches it; empty for the format's usual one.
        tempo_uid: uid of a Tempo data source, in which trace ids open; empty without one.
        runbooks: URL of the folder with the runbooks; empty for paths in the repository.
        grafana: URL of Grafana for the alerts' links; empty for paths below any Grafana.
        release: the label `release` by which an operator's Prometheus selects objects.
        namespace: where the objects lie.
    """

    place: str
    prometheus_url: str = ""
    tempo_uid: str = ""
    runbooks: str = ""
    grafana: str = ""
    release: str = "kube-prometheus-stack"
    namespace: str = "monitoring"


def rendered(subject: Subject, form: Format, where: Surroundings) -> dict[str, str]:
    """Return all files of a format by their paths.

    Raises:
        UsageError: a base of the alerts' links is not a URL.
    """
    runbooks = checked(where.runbooks) if where.runbooks else PAGES
    grafana = checked(where.grafana) if where.grafana else ""
    shared = {name: linked(text, runbooks, grafana) for name, text in files_at(subject.interval_s).items()}
    both = {"place": where.place, "tempo_uid": where.tempo_uid}
    if form == "files":
        return as_files(subject, shared, prometheus_url=where.prometheus_url or LOCAL_PROMETHEUS, **both)
    url = where.prometheus_url or f"http://prometheus-operated.{where.namespace}.svc:9090"
    names = {"release": where.release, "namespace": where.namespace}
    return as_objects(subject, shared, prometheus_url=url, **both, **names)


def render(out: Path, subject: Subject, form: Format, where: Surroundings, *, overwrites: bool = False) -> list[Path]:
    """Write all files of a format into `out`, and return their paths.

    Raises:
        UsageError: see `rendered`; or there are changed files, see `workload.watch.folder.write`.
        StorageError: a file cannot be written.
    """
    about = {"format": form, "subject": subject.as_dict()}
    return folder.write(out, rendered(subject, form, where), about, overwrites=overwrites)
