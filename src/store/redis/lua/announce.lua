-- Says that an instance uses this Redis, and tells who else does.
--
-- KEYS[1] a hash: instance, and when it was last here, microseconds; negative when it left
-- ARGV[1] unused   ARGV[2] not after, microseconds   ARGV[3] unused
-- ARGV[4] instance   ARGV[5] lease, microseconds   ARGV[6] '1' to stay, '0' to leave
-- Returns {'LATE', now}, or {'DONE', text}: when this instance was here before or 0, now, and the others whose lease has not ended.
local FORGET = 2592000000000 -- thirty days
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[2]) then
    return {'LATE', string.format('%.0f', now)}
end
local before = 0
local others = ''
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local seen = tonumber(all[i + 1]) or 0
    if all[i] == ARGV[4] then
        before = math.abs(seen)
    elseif seen + tonumber(ARGV[5]) >= now then
        others = others .. ' ' .. all[i]
    elseif math.abs(seen) + FORGET < now then
        redis.call('HDEL', KEYS[1], all[i])
    end
end
redis.call('HSET', KEYS[1], ARGV[4], string.format('%.0f', ARGV[6] == '1' and now or -now))
return {'DONE', string.format('%.0f %.0f', before, now) .. others}
