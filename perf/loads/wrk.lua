-- wrk's own figures as one line of JSON. Only `done` is defined, so wrk keeps its fast path for static requests.
done = function(summary, latency, requests)
   local counts = {}
   for i = 1, #latency do
      local value, count = latency(i)
      counts[i] = string.format('"%d": %d', value, count)
   end
   local e = summary.errors
   io.write(string.format(
      '\nJSON {"microseconds": %d, "answers": %d, "bytes": %d, "latency": {%s}, "errors": '
         .. '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.duration, summary.requests, summary.bytes, table.concat(counts, ", "),
      e.connect, e.read, e.write, e.status, e.timeout))
end
