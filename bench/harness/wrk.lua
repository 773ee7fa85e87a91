-- Sends the requests of a file, drawn at random: `wrk -s wrk.lua URL -- FILE FIRST_ID`.
-- In the file, requests end with \30, and \31 stands where a fresh id goes (harness/traffic.py).
local requests = {}
local next_id
local id_format

function init(args)
    next_id = tonumber(args[2])
    id_format = "%0" .. args[3] .. "d"
    local file = assert(io.open(args[1], "rb"))
    for text in file:read("*a"):gmatch("([^\30]+)\30") do
        local pieces = {}
        for piece in (text .. "\31"):gmatch("([^\31]*)\31") do
            pieces[#pieces + 1] = piece
        end
        requests[#requests + 1] = pieces
    end
    file:close()
end

function request()
    local pieces = requests[math.random(#requests)]
    if #pieces == 1 then
        return pieces[1]
    end
    local filled = { pieces[1] }
    for i = 2, #pieces do
        filled[#filled + 1] = id_format:format(next_id)
        filled[#filled + 1] = pieces[i]
        next_id = next_id + 1
    end
    return table.concat(filled)
end

-- Two lines for harness/wrk.py; latencies come in microseconds. The second has all of them, each with how often, and is left
-- out where that would take too long.
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        "nozle-bench %d %d %d %d %d %d %d\n",
        summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
    if latency.max <= 200000 then
        local times = {}
        for i = 1, #latency do
            times[i] = string.format("%d:%d", latency(i))
        end
        io.write("nozle-times ", table.concat(times, " "), "\n")
    end
end
