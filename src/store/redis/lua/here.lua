-- KEYS[1] which instances use this Redis
-- ARGV[1] an instance   ARGV[2] when it announced itself last, as far as it has an answer
-- Returns {'DONE', when that instance was here last and the moment of which it had said that all was here, or 0 each}.
local here, refused = last_here(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return refused or {'DONE', here}
