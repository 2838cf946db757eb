"""All PromQL of the project: one module per dashboard, a name and a query each. No other module holds any."""
