-- Puts a lock into the index of all locks, and into that of its pull unless that is ''. Returns what refuses that, and then neither has
-- changed.
local function enter(all, now, pull, member)
    local added = pull ~= '' and redis.pcall('SADD', pull, member) or 0
    if type(added) == 'table' then
        return foreign(pull, added)
    end
    local stamped = redis.pcall('ZADD', all, now, member)
    if type(stamped) == 'table' then
        if added == 1 then
            redis.call('SREM', pull, member)
        end
        return foreign(all, stamped)
    end
end
