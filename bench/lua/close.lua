-- A new connection for every request: the proxy closes after its answer, wrk opens the next one.
wrk.headers["Connection"] = "close"
