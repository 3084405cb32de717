-- Writes and deletes one key of each kind, inside one script, so that nobody sees them: whether this user may.
--
-- KEYS: one key of each kind
for i = 1, #KEYS do
    redis.call('SET', KEYS[i], '', 'PX', 1000)
    redis.call('GET', KEYS[i])
    redis.call('DEL', KEYS[i])
    redis.call('HSET', KEYS[i], 'a', '')
    redis.call('HMGET', KEYS[i], 'a')
    redis.call('HGET', KEYS[i], 'a')
    redis.call('HDEL', KEYS[i], 'a')
    redis.call('PERSIST', KEYS[i])
    redis.call('PEXPIRE', KEYS[i], 1000)
    redis.call('ZADD', KEYS[i], 1, 'a')
    redis.call('ZSCORE', KEYS[i], 'a')
    redis.call('ZREM', KEYS[i], 'a')
    redis.call('SADD', KEYS[i], 'a')
    redis.call('SREM', KEYS[i], 'a')
end
return redis.call('TIME')
