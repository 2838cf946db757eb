"""What the settings name, refused before anything starts."""

from __future__ import annotations

import pytest

from workload.errors import UsageError
from workload.harness.backends import check_engine
from workload.settings import load_settings

GIVEN = {"limit": 20, "max_hops": 3, "k": 10}


def test_replicas_are_checked_addresses_behind_a_named_front() -> None:
    """A front that hides its servers is measured at the servers, and only calls go to the front."""
    front = {"vllm_endpoint": "http://127.0.0.1:8000"}
    settings = load_settings(GIVEN | front | {"replicas": "http://127.0.0.1:1,http://127.0.0.2:2/"}, {})
    assert settings.places.replicas == ("http://127.0.0.1:1", "http://127.0.0.2:2")
    alone = load_settings(GIVEN | {"replicas": "http://127.0.0.1:1"}, {})
    with pytest.raises(UsageError, match="Name the front with --vllm-endpoint"):
        check_engine(alone.engine, alone.places)
    with pytest.raises(UsageError, match="link-local"):
        load_settings(GIVEN | front | {"replicas": "http://169.254.169.254"}, {})
