-- When an instance was here last, as announce.lua would tell it, which has an answer until `last`; and the moment of which it had said that
-- this Redis had everything, or 0. The second answer is what refuses that.
local function last_here(instances, instance, last)
    local told = redis.pcall('HMGET', instances, instance, 'gap:' .. instance)
    if told.err then
        return '', foreign(instances, told)
    elseif #(told[1] or '') > 40 or #(told[2] or '') > 40 then
        return '', foreign(instances, 'an announcement that is none')
    end
    local here, agreed = string.match(told[1] or '', '^-?(%d+) ?(%d*)$')
    here = here or '0'
    agreed = agreed and agreed ~= '' and agreed or '0'
    local gap, gap_at = string.match(told[2] or '', '^0 (%d+) (%d+)$')
    if gap and last < tonumber(gap_at) and tonumber(gap) < tonumber(here) then
        here = gap
    end
    return here .. ' ' .. agreed
end
