-- KEYS[1] a lock   KEYS[2] its side hash   KEYS[3] which instances use this Redis, if that is asked for
-- ARGV[1] an instance   ARGV[2] when it announced itself last, as far as it has an answer
-- Returns {'DONE', when that instance was here last and the moment of which it had said that all was here, or '', last fencing token or '0', who took it last: instance
-- and request id, and the token wished for if another was given, or '', value}; without a value there is no lock. Of a lock that a stock server took, the side hash says nothing: what it
-- tells belongs to a lock that was before.
local here = ''
if KEYS[3] then
    local refused
    here, refused = last_here(KEYS[3], ARGV[1], tonumber(ARGV[2]))
    if refused then
        return refused
    end
end
local value, instead = value_at(KEYS[1])
if instead then
    return instead
end
local side = redis.pcall('HMGET', KEYS[2], 'token', 'holder', 'of')
if side.err then
    return foreign(KEYS[2], side)
elseif side[1] and not string.find(side[1], '^%d+$') or #(side[1] or '') > 16 or #(side[2] or '') > 1024 then
    return foreign(KEYS[2], 'in the fields token and holder no grant')
end
local is_bound = true
if not value then
    end_orphan(KEYS[2])
elseif side[3] and side[3] ~= '' then
    local digest = redis.sha1hex(value)
    is_bound = side[3] == digest or side[3] == '-' .. digest
else
    -- A version that wrote no digest: its hash has an end once its lock was released.
    is_bound = redis.call('PTTL', KEYS[2]) < 0
end
if not is_bound then
    return {'DONE', here, '0', '', value}
end
return {'DONE', here, side[1] or '0', side[2] or '', value or nil}
