-- The usual refusal needs nothing else: it changes nothing, so neither its time nor its request matters. A retry may be the
-- holder itself.
local value, instead = value_at(KEYS[1])
if instead then
    return instead
end
if value and string.byte(ARGV[3]) == 45 then -- '-': a first attempt
    return {'HELD', value}
end
