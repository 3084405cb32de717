-- Ends the side hashes of locks that are gone; others stay as they are.
--
-- KEYS: a lock, its side hash, a lock, its side hash, …
for i = 1, #KEYS, 2 do
    if redis.call('PTTL', KEYS[i]) == -2 then
        end_orphan(KEYS[i + 1])
    end
end
return {'DONE'}
