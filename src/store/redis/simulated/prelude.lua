-- What a script finds of Redis. The arguments are the functions behind it.
local query, sha1hex, decode, stand
query, sha1hex, decode, stand, met = ...

redis, cjson = {}, {null = stand}
function redis.call(...)
    local is_done, reply = query(...)
    if is_done then
        return reply
    end
    error(reply, 0)
end
function redis.pcall(...)
    local _, reply = query(...)
    return reply
end
function redis.sha1hex(...)
    if select('#', ...) ~= 1 then
        error('wrong number of arguments', 0)
    end
    return sha1hex((...))
end
function redis.error_reply(text)
    text = string.gsub(text, '^%-', '')
    return {err = string.find(text, ' ', 1, true) and text or 'ERR ' .. text}
end
function redis.status_reply(text)
    return {ok = text}
end
function cjson.decode(text)
    if type(text) ~= 'string' and type(text) ~= 'number' then
        error("bad argument #1 to 'decode' (string expected, got " .. type(text) .. ')', 2)
    end
    local is_json, value = decode(tostring(text))
    if is_json then
        return value
    end
    error(value, 2)
end

KEYS, ARGV = {}, {}
for _, name in ipairs({'print', 'dofile', 'loadfile'}) do
    _G[name] = nil
end
setmetatable(_G, {
    __newindex = function()
        error('Attempt to modify a readonly table', 2)
    end,
    __index = function(_, name)
        error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
    end,
})
local xpcall = xpcall
return function(script, handler)
    return xpcall(script, handler)
end
