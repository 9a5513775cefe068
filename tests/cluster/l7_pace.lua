-- wrk at a fixed pace: wrk -t1 -s l7_pace.lua URL -- RATE TOTAL TAG. Each request has a path of its own, and in which order the
-- kinds of answers come nobody could guess: an answer given to another request shows. After TOTAL requests it only waits.
local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } moment;
    int clock_gettime(int clock, moment *now);
]]
local MONOTONIC, FOR_EVER_MS = 1, 3600000
local moment = ffi.new("moment")
local rate, total, tag, begun
local slots, asked = 0, 0

local function now()
    ffi.C.clock_gettime(MONOTONIC, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

function init(args)
    rate, total, tag = tonumber(args[1]), tonumber(args[2]), args[3]
    math.randomseed(7)
end

-- Asked before each request of each connection; milliseconds.
function delay()
    if slots >= total then
        return FOR_EVER_MS
    end
    begun = begun or now()
    local due = begun + slots / rate
    slots = slots + 1
    return math.max(0, math.floor((due - now()) * 1000))
end

local FORMS = {
    "GET /s/%s-%d/media/seg-%05d.ts HTTP/1.1\r\nHost: cache\r\nRange: bytes=0-1023\r\n\r\n",
    "GET /s/%s-%d/media/seg-%05d.ts HTTP/1.1\r\nHost: cache\r\nIf-None-Match: *\r\n\r\n",
    "GET /s/%s-%d/media/seg-%05d.ts HTTP/1.1\r\nHost: cache\r\nRange: bytes=200000-\r\n\r\n",
    "GET /s/%s-%d/status/503?segment=%05d HTTP/1.1\r\nHost: cache\r\n\r\n",
    "GET /s/%s-%d/missing/%05d HTTP/1.1\r\nHost: cache\r\n\r\n",
}

function request()
    asked = asked + 1
    return string.format(FORMS[math.random(#FORMS)], tag, asked, asked % 20 + 1)
end
