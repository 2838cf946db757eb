"""What holds for all tests: a property is about results; how long an example took on a busy machine is not one."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
