-- Comes before every script that changes a lock, behind what may be answered without it.
--
-- KEYS[1] the lock   KEYS[2] its side hash   KEYS[3] the index of all locks (a single server only)
-- ARGV[1] request id   ARGV[2] not after: microseconds on this server's clock   ARGV[3] '0', or on a retry: when the
-- first attempt whose reply was lost was sent, microseconds
--
-- The side hash keeps the outcomes of the last changes, in fields 'r:<request id>', and their ids and times, oldest first,
-- in 'q' (id,micros id,micros …); the
-- last fencing token in 'token', and in 'holder' who took it: instance and request id.
-- Errors can only come before the first write: a script leaves all or nothing.
-- Each call costs Redis over a microsecond, and so does most work on texts: the usual path has as little as possible of both.
local MEMORY = 400 -- bytes of 'q': eight changes
local LONGEST = 68 -- bytes of one, with its separator
local SIDE_TTL = 3600000 -- milliseconds that the side hash outlives its lock

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- A command that arrives after its caller gave up must not act: somebody else may hold the lock by now.
if now > tonumber(ARGV[2]) then
    return {'LATE', string.format('%.0f', now)}
end

-- Whatever this request did before is its answer. A retry that finds nothing did nothing, if what is
-- remembered reaches back to before it was first sent; otherwise it may have been forgotten.
--
-- That a retry was refused is remembered, too ('N'): attempts before it may still come, when its caller has left.
local outcome = 'r:' .. ARGV[1]
local side = redis.call('HMGET', KEYS[2], outcome, 'q', 'token')
if side[1] == 'N' then
    return {'NONE'}
elseif side[1] then
    -- A write, though it changes nothing: WAIT on this connection is about what this connection wrote.
    redis.call('HSET', KEYS[2], 'q', side[2])
    return {'DONE', side[1]}
end
local ids = side[2]
if ARGV[3] ~= '0' and ids and #ids > MEMORY - LONGEST then
    local oldest = tonumber(string.match(ids, '^%S-,(%d+)') or '')
    if not oldest or oldest >= tonumber(ARGV[3]) then
        return {'UNKNOWN'}
    end
end

-- The ids to remember from now on; the outcomes of the oldest are forgotten.
local this = ARGV[1] .. ',' .. string.format('%.0f', now)
if ids then
    ids = ids .. ' ' .. this
    while #ids > MEMORY do
        local oldest, rest = string.match(ids, '^([^ ,]+)%S* (.*)$')
        redis.call('HDEL', KEYS[2], 'r:' .. oldest)
        ids = rest
    end
else
    ids = this
end

-- Ends the script without a change.
local function refuse(reply)
    if ARGV[3] ~= '0' then
        redis.call('HSET', KEYS[2], outcome, 'N', 'q', ids)
        if not side[2] then
            redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
        end
    end
    return reply
end
