-- wrk at a steady rate, requests per second over all connections: RATE, CONNECTIONS as arguments.
local wait

function init(args)
    wait = tonumber(args[2]) * 1000 / tonumber(args[1])
end

-- Milliseconds until this connection asks again.
function delay()
    return wait
end
