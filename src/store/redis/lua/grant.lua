-- Takes a lock if it is free.
--
-- ARGV[4] value   ARGV[5] instance
-- ARGV[6] member of the indexes   ARGV[7] the pull's index (both: a project lock on a single server)
-- ARGV[8] a fencing token to give, or '0'   ARGV[9] who asks, as gates name a pull; '' obeys none
-- Returns {'HELD', value}, {'NOTYET'}, or {'DONE', 'G<token>', '1' if a gate let the caller in, else ''}.
if value then
    return refuse({'HELD', value})
end
local gated = ''
if side[5] and ARGV[9] ~= '' then
    local num, host = string.match(side[5], '^%d+ (%S+) ?(.*)$')
    local asks, at = string.match(ARGV[9], '^(%S+) (.*)$')
    -- A host that is not known is any. What names no pull keeps nobody out: it is no gate of ours.
    if num and (num ~= asks or (host ~= at and host ~= '' and at ~= '')) then
        -- mark: queue: grant, kept for somebody else
        return refuse({'NOTYET'})
    end
    -- mark: queue: grant, let in by its gate
    gated = num and '1' or ''
end
if KEYS[3] then
    local refused = enter(KEYS[3], now, ARGV[7], ARGV[6])
    if refused then
        return refused
    end
end
local token = now
-- Another clock may be wrong by less than the side hash outlives its lock: tokens increase all the same.
if math.abs(tonumber(ARGV[8]) - now) < 60000000 then
    token = tonumber(ARGV[8])
end
if side[3] then
    token = math.max(last + 1, token)
end
if side[2] or side[3] or side[5] then
    redis.call('PERSIST', KEYS[2])
end
local granted = string.format('%.0f', token)
redis.call('HSET', KEYS[2], outcome, 'G' .. granted, 'q', ids, 'token', granted, 'holder', who(ARGV[5], granted, ARGV[8]),
    'of', redis.sha1hex(ARGV[4]))
redis.call('SET', KEYS[1], ARGV[4])
return {'DONE', 'G' .. granted, gated}
