-- The usual refusal needs nothing else: it changes nothing, so neither its time nor its request matters. A retry may be the
-- holder itself.
local value = redis.call('GET', KEYS[1])
if value and ARGV[3] == '0' then
    return {'HELD', value}
end
