"""Several engines as one subject: what their caches contain, which engine served a call, why a token was computed."""
