-- Writes and deletes one key of each kind, inside one script, so that nobody sees them: whether this user may.
--
-- KEYS: one key of each kind. Returns the server's time, or the first error; what an ACL denies is named.
local steps = {
    {'SET', '', 'PX', 1000}, {'GET'}, {'STRLEN'}, {'MGET'}, {'TYPE'}, {'DEL'},
    {'HSET', 'a', ''}, {'HMGET', 'a'}, {'HGET', 'a'}, {'HGETALL'}, {'HLEN'}, {'PTTL'}, {'PERSIST'}, {'PEXPIRE', 1000}, {'HDEL', 'a'},
    {'ZADD', 1, 'a'}, {'ZRANGE', 0, -1}, {'ZSCORE', 'a'}, {'ZREM', 'a'}, {'SADD', 'a'}, {'SMEMBERS'}, {'SREM', 'a'},
}
for i = 1, #KEYS do
    for _, step in ipairs(steps) do
        local reply = redis.pcall(step[1], KEYS[i], select(2, unpack(step)))
        if type(reply) == 'table' and reply.err then
            -- As Redis 7.0 says that, and as later ones and Valkey do.
            local is_denied = string.find(reply.err, 'user executing the script', 1, true)
                or string.find(reply.err, 'ACL failure in script', 1, true)
            if is_denied then
                return redis.error_reply('NOPERM the user may not ' .. step[1] .. ' the key ' .. KEYS[i])
            end
            return reply
        end
    end
end
return redis.call('TIME')
