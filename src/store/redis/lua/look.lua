-- Comes before read.lua for those who only look: a side hash whose lock is gone keeps having no end.
local function end_orphan()
end
