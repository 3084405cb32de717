-- Replaces or deletes a document if it is as expected.
--
-- KEYS[1] the document   ARGV[1] unused   ARGV[2] not after, microseconds   ARGV[3] begins with '-', but on a retry
-- ARGV[4] expected: 'any', 'absent' or 'bytes'   ARGV[5] the expected bytes   ARGV[6] 'set' or 'delete'   ARGV[7] the new bytes
-- Returns {'LATE', now}, {'DONE'}, or {'CONFLICT'} with the current bytes, if there are any.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[2]) then
    return {'LATE', string.format('%.0f', now)}
end

local current, instead = value_at(KEYS[1])
if instead then
    return instead
end
-- A document needs no memory of requests: a retry that finds its own bytes is done, whoever wrote them.
if string.byte(ARGV[3]) ~= 45 and ((ARGV[6] == 'set' and current == ARGV[7]) or (ARGV[6] == 'delete' and not current)) then
    return {'DONE'}
end
local as_expected = ARGV[4] == 'any' or (ARGV[4] == 'absent' and not current) or (ARGV[4] == 'bytes' and current == ARGV[5])
if not as_expected then
    if current then
        return {'CONFLICT', current}
    end
    return {'CONFLICT'}
end
if ARGV[6] == 'set' then
    redis.call('SET', KEYS[1], ARGV[7])
else
    redis.call('DEL', KEYS[1])
end
return {'DONE'}
