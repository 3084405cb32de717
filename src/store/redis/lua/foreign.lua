-- Comes before the other parts: what another program wrote at keys of ours.
--
-- Whoever meets what nobody of ours writes answers {'FOREIGN', key, what is there} before the first write: it stays as it is, and a lock
-- at such a key stays taken. The answer has a size, and never the value.
local MOST = 16777216 -- bytes of the largest value (store/contract/local.rs)

-- `found` is an error's table, or says what is wrong.
local function foreign(key, found)
    if type(found) ~= 'table' then
        return {'FOREIGN', key, found}
    elseif string.find(found.err, 'WRONGTYPE', 1, true) then
        -- mark: foreign: a key of another type
        return {'FOREIGN', key, 'a key of another type'}
    end
    return found -- Redis refuses the command, for another reason
end

-- The value at a key, false if there is none; the second answer is what is to be told instead. To read what is too long would keep
-- everybody waiting.
local function value_at(key)
    local size = redis.pcall('STRLEN', key)
    if type(size) == 'table' then
        return false, foreign(key, size)
    elseif size > MOST then
        -- mark: foreign: a value that is too long
        return false, foreign(key, string.format('a value of %.0f bytes', size))
    end
    return redis.call('GET', key)
end
