-- Removes a lock from the index of a pull that does not hold it, if the lock is still what was seen.
--
-- KEYS[1] the lock   KEYS[2] the pull's index   ARGV[1] the lock's value, as it was seen   ARGV[2] member
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    redis.pcall('SREM', KEYS[2], ARGV[2])
end
return {'DONE'}
