-- Adds a lock that another program took to both indexes of a single server, if it is still there.
--
-- KEYS[1] the lock   KEYS[2] the index of all locks   KEYS[3] its pull's index
-- ARGV[1] the lock's value, as it was seen   ARGV[2] member
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    local clock = redis.call('TIME')
    local refused = enter(KEYS[2], clock[1] * 1000000 + clock[2], KEYS[3], ARGV[2])
    if refused then
        return refused
    end
end
return {'DONE'}
