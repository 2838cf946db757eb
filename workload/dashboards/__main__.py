"""`python -m workload.dashboards`: rewrite the committed dashboards."""

from __future__ import annotations

from workload.dashboards.files import render

if __name__ == "__main__":
    for path in render():
        print(path)
