-- KEYS[1] a lock   KEYS[2] its side hash
-- Returns {'DONE', last fencing token or '0', who took it last: instance and request id, or '', value}; without a value there is
-- no lock. Of a lock that a stock server took, the side hash says nothing: it is one that was released, which ends by itself.
local value = redis.call('GET', KEYS[1])
local side = redis.call('HMGET', KEYS[2], 'token', 'holder')
if value and redis.call('PTTL', KEYS[2]) >= 0 then
    return {'DONE', '0', '', value}
end
return {'DONE', side[1] or '0', side[2] or '', value or nil}
