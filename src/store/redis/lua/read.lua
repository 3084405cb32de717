-- KEYS[1] a lock   KEYS[2] its side hash
-- Returns {'DONE', last fencing token or '0', value}; without a value there is no lock.
local value = redis.call('GET', KEYS[1])
local token = redis.call('HGET', KEYS[2], 'token') or '0'
if value then
    return {'DONE', token, value}
end
return {'DONE', token}
