-- Says for whom a lock is kept when it is free, unless a later revision of the queue has said so.
--
-- KEYS[1] the lock   KEYS[2] its side hash
-- ARGV[1] the queue's revision   ARGV[2] 'closed', or the pull for which the lock is kept, '<number> <host>'; '' for whoever comes first
-- Returns {'DONE', '1' if somebody holds the lock, else '0'}.
--
-- The side hash has '<revision> <ARGV[2]>' in 'gate'. It never outlives the usual hour where there is no lock: a gate that all servers
-- forgot opens by itself.
local is_held = redis.call('EXISTS', KEYS[1])
local gate = redis.pcall('HGET', KEYS[2], 'gate')
if type(gate) == 'table' then
    return foreign(KEYS[2], gate)
end
-- What says no revision is nobody's, and makes room.
local revision = gate and tonumber(string.match(gate, '^(%d+) ') or '0') or 0
if revision >= 9007199254740992 then
    return foreign(KEYS[2], 'in the field gate no revision')
end
if revision <= tonumber(ARGV[1]) then
    if ARGV[2] ~= '' then
        redis.call('HSET', KEYS[2], 'gate', ARGV[1] .. ' ' .. ARGV[2])
        if is_held == 0 then
            redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
        end
    elseif gate then
        redis.call('HDEL', KEYS[2], 'gate')
    end
else
    -- mark: queue: gate, a later revision has said so
end
return {'DONE', tostring(is_held)}
