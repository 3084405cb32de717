-- Deletes a key if it holds exactly ARGV[1].
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return {'DONE'}
