-- Adds locks to the index of all locks, stamped with this server's time.
--
-- KEYS[1] the index   ARGV[1] not after, microseconds   ARGV[2..] members
-- Returns {'LATE', now} or {'DONE', now}.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stamp = string.format('%.0f', now)
if now > tonumber(ARGV[1]) then
    return {'LATE', stamp}
end
for i = 2, #ARGV do
    local stamped = redis.pcall('ZADD', KEYS[1], stamp, ARGV[i])
    if type(stamped) == 'table' then
        return foreign(KEYS[1], stamped)
    end
end
return {'DONE', stamp}
