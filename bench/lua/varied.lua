-- No request like another: a target and two fields that never repeat, as with traced requests or per-user cookies.
-- The sidecar remembers header sections that it has read before; here it never meets one again.
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", wrk.path .. "?n=" .. n, {
    ["Cookie"] = "session=" .. n,
    ["traceparent"] = string.format("00-%032x-%016x-01", n, n),
  })
end
