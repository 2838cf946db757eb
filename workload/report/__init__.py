"""How a run is told: on the console and as a page."""
