-- One body from a file, headers from the arguments, and the figures as one line of JSON.
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.body, wrk.method = file:read("*a"), "POST"
  file:close()
  for i = 2, #args do
    local name, value = args[i]:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"rate": %.3f, "p50": %.3f, "p99": %.3f, "count": %d, "errors": %d}\n',
    1e6 * summary.requests / summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
