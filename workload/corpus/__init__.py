"""Questions and passages: the HotpotQA format, an invented multi-hop world, and the Chroma store the agent searches."""
