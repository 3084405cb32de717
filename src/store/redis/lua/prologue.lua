-- Comes before every script that changes a lock.
--
-- KEYS[1] the lock   KEYS[2] its side hash   KEYS[3] the index of all locks (a single server only)
-- ARGV[1] request id   ARGV[2] not after: microseconds on this server's clock   ARGV[3] '1' on a retry
--
-- The side hash keeps the outcomes of the last changes, in fields 'r:<request id>', and their ids, oldest first, in 'q'.
-- Errors can only come before the first write: a script leaves all or nothing.
local OUTCOMES = 8
local SIDE_TTL = 3600000 -- milliseconds that the side hash outlives its lock

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function micros(number)
    return string.format('%.0f', number)
end

-- A command that arrives after its caller gave up must not act: somebody else may hold the lock by now.
if now > tonumber(ARGV[2]) then
    return {'LATE', micros(now)}
end

local side = redis.call('HMGET', KEYS[2], 'r:' .. ARGV[1], 'q', 'token')
local ids = {}
for id in string.gmatch(side[2] or '', '%S+') do
    ids[#ids + 1] = id
end

-- Whatever this request did before is its answer. A retry that finds nothing may have been forgotten, once the memory is full.
if side[1] then
    return {'DONE', side[1]}
end
if ARGV[3] == '1' and #ids >= OUTCOMES then
    return {'UNKNOWN'}
end

-- Remembers the outcome, and sets further fields of the side hash.
local function record(outcome, ...)
    ids[#ids + 1] = ARGV[1]
    while #ids > OUTCOMES do
        redis.call('HDEL', KEYS[2], 'r:' .. table.remove(ids, 1))
    end
    redis.call('HSET', KEYS[2], 'r:' .. ARGV[1], outcome, 'q', table.concat(ids, ' '), ...)
end
