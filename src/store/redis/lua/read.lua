-- KEYS[1] a lock   KEYS[2] its side hash
-- Returns {'DONE', last fencing token or '0', who took it last: instance and request id, or '', value}; without a value there is
-- no lock.
local value = redis.call('GET', KEYS[1])
local side = redis.call('HMGET', KEYS[2], 'token', 'holder')
return {'DONE', side[1] or '0', side[2] or '', value or nil}
