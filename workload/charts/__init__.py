"""Charts that are no lines over time: bars, points, Gantt charts, heat maps."""
