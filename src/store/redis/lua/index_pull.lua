-- Adds a lock that another program took to both indexes of a single server, if it is still there.
--
-- KEYS[1] the lock   KEYS[2] the index of all locks   KEYS[3] its pull's index
-- ARGV[1] the lock's value, as it was seen   ARGV[2] member
if redis.call('GET', KEYS[1]) == ARGV[1] then
    local clock = redis.call('TIME')
    redis.call('ZADD', KEYS[2], clock[1] * 1000000 + clock[2], ARGV[2])
    redis.call('SADD', KEYS[3], ARGV[2])
end
return {'DONE'}
