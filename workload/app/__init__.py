"""Any LangGraph app as the subject of an experiment: loaded, driven, and recorded as our own agent is."""
