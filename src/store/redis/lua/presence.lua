-- When an instance was here last, as announce.lua would tell it, which has an answer until `last`.
local function last_here(instances, instance, last)
    local told = redis.call('HMGET', instances, instance, 'gap:' .. instance)
    local here = string.match(told[1] or '', '^-?(%d+)') or '0'
    local gap, gap_at = string.match(told[2] or '', '^0 (%d+) (%d+)$')
    if gap and last < tonumber(gap_at) and tonumber(gap) < tonumber(here) then
        return gap
    end
    return here
end
