-- Says that an instance uses this Redis, and tells who else does.
--
-- KEYS[1] a hash: instance, and two times in microseconds: when it was last here, negative when it left, and the last moment of
-- which it said that this Redis had everything that it acknowledged. If this Redis had lost an announcement, 'gap:' and the instance has
-- '0', which one this Redis had instead, or 0, and when that was seen: until the instance has an answer from after that, for the answer
-- that said so may have been lost.
-- ARGV[1] unused   ARGV[2] not after, microseconds   ARGV[3] unused
-- ARGV[4] instance   ARGV[5] lease, microseconds   ARGV[6] '1' to stay, '0' to leave
-- ARGV[7] the moment of which it says that now, at which it announced itself; or '0' to leave that as it is. It is believed only if
-- that announcement, or a later one, is remembered: otherwise this Redis has lost data since. And only if the replication ID is the same:
-- otherwise this Redis may have gone back to any moment after that announcement.
-- ARGV[8] when it announced itself before, as far as it has an answer; or '0'
-- ARGV[9] the replication ID of this Redis when the instance looked whether it had everything
-- Returns {'LATE', now}, or {'DONE', text}: when this instance was here before or 0, the moment of which it had said so or 0, now,
-- the replication ID, and the others whose lease has not ended.
local FORGET = 2592000000000 -- thirty days
local MOST_INSTANCES = 10000 -- and their gaps
local LONGEST_NAME = 1024
-- A master has another one after each start and each fail-over: its data may be older since. '-' if this user may not see it.
local function replication_id()
    local text = redis.pcall('INFO', 'replication')
    return type(text) == 'string' and string.match(text, 'master_replid:(%w+)') or '-'
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[2]) then
    return {'LATE', string.format('%.0f', now)}
end
local before, agreed = 0, '0'
local gap, gap_at
local gap_field = 'gap:' .. ARGV[4]
local last = tonumber(ARGV[8])
local others = ''
local count = redis.pcall('HLEN', KEYS[1])
if type(count) == 'table' then
    return foreign(KEYS[1], count)
elseif count > MOST_INSTANCES then
    return foreign(KEYS[1], string.format('%.0f announcements', count))
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    if #all[i] > LONGEST_NAME or #all[i + 1] > LONGEST_NAME then
        return foreign(KEYS[1], 'an announcement that is none')
    end
end
for i = 1, #all, 2 do
    local seen, had = string.match(all[i + 1], '^(-?%d+) ?(%d*)$')
    seen = tonumber(seen or '0')
    if math.abs(seen) >= 4503599627370496 then
        seen, had = 0, '' -- a time that no clock has
    end
    if all[i] == ARGV[4] then
        before = math.abs(seen)
        agreed = had and had ~= '' and had or '0'
    elseif all[i] == gap_field then
        gap, gap_at = string.match(all[i + 1], '^0 (%d+) (%d+)$')
    elseif string.sub(all[i], 1, 4) == 'gap:' then
        seen = nil -- another instance's
    elseif seen + tonumber(ARGV[5]) >= now then
        others = others .. ' ' .. all[i]
    elseif math.abs(seen) + FORGET < now then
        redis.call('HDEL', KEYS[1], all[i])
    end
end
if gap and last < tonumber(gap_at) then
    before = math.min(before, tonumber(gap))
elseif gap then
    redis.call('HDEL', KEYS[1], gap_field)
end
if before < last then
    redis.call('HSET', KEYS[1], gap_field, string.format('0 %.0f %.0f', before, now))
end
local says, replication = agreed, replication_id()
if ARGV[7] ~= '0' and before >= tonumber(ARGV[7]) and ARGV[9] == replication then
    says = ARGV[7]
end
redis.call('HSET', KEYS[1], ARGV[4], string.format('%.0f ', ARGV[6] == '1' and now or -now) .. says)
return {'DONE', string.format('%.0f ', before) .. agreed .. string.format(' %.0f ', now) .. replication .. others}
