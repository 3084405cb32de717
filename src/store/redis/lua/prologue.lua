-- Comes before every script that changes a lock, behind what may be answered without it.
--
-- KEYS[1] the lock   KEYS[2] its side hash   KEYS[3] the index of all locks (a single server only)
-- ARGV[1] request id   ARGV[2] not after: microseconds on this server's clock   ARGV[3] when
-- the first attempt whose reply was lost was sent, microseconds; behind a '-', when this one was, and none was lost before it
--
-- The side hash keeps the outcomes of the last changes, in fields 'r:<request id>', and their ids and times, oldest first,
-- in 'q' (id,micros id,micros …); the last fencing token in 'token', in 'holder' who took it: instance and request id,
-- and the token that was wished for, if another was given; and in 'of' the SHA-1 of the value that these two belong to, '' once that was released. A value of another SHA-1 was put there by a
-- stock server. A '-' before it: the value was copied from such a server, and no reader of ours found a lock in it. 'gate' says for
-- whom the lock is kept when it is free (gate.lua).
-- Errors can only come before the first write: a script leaves all or nothing.
-- Each call costs Redis over a microsecond, and so does most work on texts: the usual path has as little as possible of both.
local MEMORY = 400 -- bytes of 'q': eight changes
local LONGEST = 68 -- bytes of one, with its separator

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- A command that arrives after its caller gave up must not act: somebody else may hold the lock by now.
if now > tonumber(ARGV[2]) then
    -- mark: prologue: late
    return {'LATE', string.format('%.0f', now)}
end

-- Whatever this request did before is its answer. One that finds nothing did nothing, if what is remembered reaches back to before it
-- was first sent; otherwise it may have been forgotten. That holds for a first attempt as well: it may have been stuck on its way while
-- a retry was answered, and eight other changes came.
--
-- That a retry was refused is remembered, too ('N'): attempts before it may still come, when its caller has left. So is that one
-- was answered by a value for its caller to judge ('J'): those attempts must not act either, but what the caller asks for then may.
local outcome = 'r:' .. ARGV[1]
local is_retry = string.byte(ARGV[3]) ~= 45 -- '-'
local side = redis.pcall('HMGET', KEYS[2], outcome, 'q', 'token', 'of', 'gate')
if side.err then
    return foreign(KEYS[2], side)
end
local was_judged = side[1] == 'J'
if side[1] == 'N' then
    -- mark: prologue: an earlier retry was refused
    return {'NONE'}
elseif side[1] and not was_judged then
    -- mark: prologue: a remembered outcome
    -- A write, though it changes nothing: WAIT on this connection is about what this connection wrote.
    if side[2] then
        redis.call('HSET', KEYS[2], 'q', side[2])
    end
    return {'DONE', side[1]}
end
local ids = side[2]
if ids and #ids > MEMORY then
    -- mark: foreign: a memory that is too long
    return foreign(KEYS[2], 'in the field q more than it may remember')
end
-- The last fencing token.
local last = 0
if side[3] then
    last = tonumber(side[3])
    -- The clock reaches this in the year 2112. Above 2^53, one more is the same number.
    if not last or not (last >= 0 and last < 4503599627370496) or last % 1 ~= 0 then
        -- mark: foreign: no fencing token
        return foreign(KEYS[2], 'in the field token no fencing token')
    end
end
if ids and not was_judged and #ids > MEMORY - LONGEST then
    local oldest = tonumber(string.match(ids, '^%S-,(%d+)') or '')
    if not oldest or oldest >= math.abs(tonumber(ARGV[3])) then
        -- mark: prologue: unknown
        return {'UNKNOWN', string.format('%.0f', now)}
    end
end

-- The ids to remember from now on; the outcomes of the oldest are forgotten.
local this = ARGV[1] .. ',' .. string.format('%.0f', now)
if was_judged then
    -- mark: prologue: judged before
    this = nil -- it is among them
elseif ids then
    ids = ids .. ' ' .. this
    local forgotten
    while #ids > MEMORY do
        local oldest, rest = string.match(ids, '^([^ ,]+)%S* (.*)$')
        if not oldest then
            return foreign(KEYS[2], 'in the field q what names no request')
        end
        -- mark: prologue: the oldest is forgotten
        forgotten = forgotten or {}
        forgotten[#forgotten + 1] = 'r:' .. oldest
        ids = rest
    end
    if forgotten then
        redis.call('HDEL', KEYS[2], unpack(forgotten))
    end
else
    ids = this
end

-- Who takes the lock with this token, having wished for that one ('0' for none): the wish is the name by which a taker knows the lock that
-- died before it had the answer.
local function who(instance, granted, wish)
    local name = instance .. ' ' .. ARGV[1]
    if wish == granted or wish == '0' then
        return name
    end
    return name .. ' ' .. wish
end

-- Ends the script without a change.
local function refuse(reply, memory)
    if is_retry then
        -- mark: prologue: a refused retry
        redis.call('HSET', KEYS[2], outcome, memory or 'N', 'q', ids)
        if not side[2] then
            redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
        end
    end
    return reply
end
