-- No target like another, in this run or in one before it: a cache never has a copy. Fields stay the same.
-- The word after `--` on wrk's command line is this run's own; threads tell themselves apart by a number.
local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local n, prefix = 0, nil
function init(args)
  prefix = wrk.path .. "?" .. args[1] .. "-" .. number .. "-"
end

request = function()
  n = n + 1
  return wrk.format("GET", prefix .. n)
end
