-- A lock that a stock server deleted leaves its side hash without an end: it gets the usual one. Called only where the lock was
-- seen to be gone in the same script. A server that takes no writes keeps the hash until the next look.
local function end_orphan(side)
    if redis.call('PTTL', side) == -1 and redis.call('TYPE', side).ok == 'hash' then
        redis.pcall('PEXPIRE', side, SIDE_TTL)
    end
end
