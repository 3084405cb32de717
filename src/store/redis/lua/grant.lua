-- Takes a lock if it is free.
--
-- ARGV[4] value   ARGV[5] its fingerprint   ARGV[6] instance
-- ARGV[7] member of the indexes   ARGV[8] the pull's index (both: a project lock on a single server)
-- Returns {'HELD', value}, or {'DONE', 'G<token>'}.
local value = redis.call('GET', KEYS[1])
if value then
    return {'HELD', value}
end
if KEYS[3] then
    redis.call('ZADD', KEYS[3], now, ARGV[7])
    redis.call('SADD', ARGV[8], ARGV[7])
end
local token = micros(math.max((tonumber(side[3] or '') or 0) + 1, now))
record('G' .. token, 'token', token, 'request', ARGV[1], 'fingerprint', ARGV[5], 'instance', ARGV[6])
redis.call('PERSIST', KEYS[2])
redis.call('SET', KEYS[1], ARGV[4])
return {'DONE', 'G' .. token}
