-- Moves a lock from the key that Atlantis before v0.40 gave it to today's key, on a single server.
--
-- KEYS[1] the old key   KEYS[2] today's   ARGV[1] the value, as it was seen
-- Both differ from what was seen, or hold different locks: nothing is changed.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
    return {'DONE'}
end
local new = redis.pcall('GET', KEYS[2])
if not new then
    redis.call('SET', KEYS[2], ARGV[1])
elseif new ~= ARGV[1] then
    return {'CONFLICT'}
end
redis.call('DEL', KEYS[1])
return {'DONE'}
