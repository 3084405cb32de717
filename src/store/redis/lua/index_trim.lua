-- Removes members of the index of all locks whose locks were seen to be gone.
--
-- A taker stamps its member anew and then takes the lock, within half of the grace. So a member whose stamp is still the one
-- that was seen, and was older than the grace then, belongs to nobody who could still take the lock after it was seen to be gone, however late this is executed.
--
-- KEYS[1] the index   ARGV[1] the newest stamp to remove, microseconds   ARGV[2..] member, stamp, member, stamp, …
for i = 2, #ARGV, 2 do
    local stamp = redis.pcall('ZSCORE', KEYS[1], ARGV[i])
    if type(stamp) == 'table' then
        return foreign(KEYS[1], stamp)
    elseif stamp and tonumber(stamp) == tonumber(ARGV[i + 1]) and tonumber(stamp) <= tonumber(ARGV[1]) then
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
return {'DONE'}
