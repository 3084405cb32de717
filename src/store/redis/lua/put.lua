-- Makes a lock what the local store decided, if it still is what was seen: compare and set.
--
-- ARGV[4] '1' if there was a value   ARGV[5] that value   ARGV[6] '1' if there is to be one   ARGV[7] the new value
-- ARGV[8] its fencing token   ARGV[9] instance   ARGV[10] member of the indexes
-- ARGV[11] the index of the old value's pull, or ''   ARGV[12] that of the new one's, or ''
-- ARGV[13] '' if the new value is a lock, '-' if no reader of ours finds one in it
-- Returns {'CONFLICT'}, or {'DONE', 'G<token>'}; the token is larger than asked for where another holder's was as large.
local held, instead = value_at(KEYS[1])
if instead then
    return instead
end
local seen = ARGV[4] == '1' and ARGV[5] or false
if held ~= seen then
    return refuse({'CONFLICT'})
end
if ARGV[6] == '0' then
    local granted = string.format('%.0f', last)
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[2], outcome, 'G' .. granted, 'q', ids, 'of', '')
    redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
    if KEYS[3] then
        redis.pcall('ZREM', KEYS[3], ARGV[10])
        if ARGV[11] ~= '' then
            redis.pcall('SREM', ARGV[11], ARGV[10])
        end
    end
    return {'DONE', 'G' .. granted}
end
local token = tonumber(ARGV[8])
if last > token then
    token = last + 1
end
local granted = string.format('%.0f', token)
if KEYS[3] then
    local refused = enter(KEYS[3], now, ARGV[12], ARGV[10])
    if refused then
        return refused
    end
    if ARGV[11] ~= '' and ARGV[11] ~= ARGV[12] then
        redis.pcall('SREM', ARGV[11], ARGV[10])
    end
end
redis.call('HSET', KEYS[2], outcome, 'G' .. granted, 'q', ids, 'token', granted, 'holder', who(ARGV[9], granted, ARGV[8]),
    'of', ARGV[13] .. redis.sha1hex(ARGV[7]))
redis.call('PERSIST', KEYS[2])
redis.call('SET', KEYS[1], ARGV[7])
return {'DONE', 'G' .. granted}
