local SIDE_TTL = 3600000 -- milliseconds that a side hash outlives its lock
