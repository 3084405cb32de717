-- Releases a lock if it is the one meant.
--
-- ARGV[4] guard: '' any, 'repo' the repository, 'place' all fields but the project, 'fields' all four, 'is' exactly the value ARGV[5],
-- 'holder' taken by ARGV[5] with the value ARGV[6], 'raw' whatever it is
-- ARGV[5] repository   ARGV[6] path   ARGV[7] workspace   ARGV[8] project   ARGV[9] pull number, or '' for any
-- ARGV[10] '1' for a project lock   ARGV[11] member of the indexes   ARGV[12] what the names of the pulls' indexes begin with;
-- with 'is' the whole name of the value's, or ''
-- ARGV[13] what masks credentials in what is remembered (pad.rs)
-- Returns {'NONE'}, {'JUDGE', value}, or {'DONE', 'R<token> <value>'}; the token is 0 if it is not known that the value had it.
--
-- Only a value that the library has read before it was stored (its digest says so) is read here: another one the caller judges, so
-- that there is one reader of the format, and then asks for exactly that value. No request that a caller was told to judge acts
-- later, but one for exactly a value; and a value that is gone does not come back.
local value, instead = value_at(KEYS[1])
if instead then
    return instead
end

-- The index may name a lock that is gone, or another pull's by now: this is where it is put right.
local function forget(index)
    if KEYS[3] and index ~= '' then
        -- A key of another type there is another program's, and must not stop us.
        redis.pcall('SREM', index, ARGV[11])
    end
end

if not value then
    end_orphan(KEYS[2])
    if KEYS[3] then
        redis.pcall('ZREM', KEYS[3], ARGV[11])
    end
    if ARGV[4] == 'repo' then
        forget(ARGV[12] .. ARGV[5] .. '#' .. ARGV[9])
    end
    return refuse({'NONE'})
end

-- Instance and request id of who took it.
local function holder()
    return string.match(redis.call('HGET', KEYS[2], 'holder') or '', '^%S+ %S+')
end

local is_ours = side[4] and side[4] == redis.sha1hex(value)

-- The fields of a project lock of ours; nil where a double does not hold its number, or the reader takes less than the library's.
local function parse(json)
    local ok, lock = pcall(cjson.decode, json)
    if not ok or type(lock) ~= 'table' then
        return nil
    end
    local project, pull = lock['Project'], lock['Pull']
    if type(project) ~= 'table' or type(pull) ~= 'table' then
        return nil
    end
    local name = project['ProjectName']
    if name == nil then
        name = ''
    end
    local fields = {project['RepoFullName'], project['Path'], lock['Workspace'], name}
    for i = 1, 4 do
        if type(fields[i]) ~= 'string' then
            return nil
        end
    end
    local num = pull['Num']
    -- A double holds each whole number below 2^53, and cannot tell those above apart.
    if type(num) ~= 'number' or num ~= math.floor(num) or math.abs(num) >= 9007199254740992 then
        return nil
    end
    return {fields = fields, num = num, index = ARGV[12] .. fields[1] .. '#' .. string.format('%.0f', num)}
end

-- The outcome for a retry: the value, but for the users and passwords of its URLs.
local function remembered(token)
    if not string.find(value, '@', 1, true) then
        return 'M' .. token .. '  ' .. value
    end
    local pad, used, lengths, masked = ARGV[13] or '', 0, {}, {}
    local holed = string.gsub(value, '://([^/?#"%s]*)@', function(text)
        if used + #text <= #pad then
            for i = 1, #text do
                masked[used + i] = string.char((string.byte(text, i) + string.byte(pad, used + i)) % 256)
            end
        end
        used = used + #text
        lengths[#lengths + 1] = #text
        return '://@'
    end)
    if used > #pad then
        return 'L' .. token
    end
    return 'M' .. token .. ' ' .. table.concat(lengths, ',') .. ' ' .. table.concat(masked) .. holed
end

local index = ''
if ARGV[4] == 'is' then
    if value ~= ARGV[5] then
        return refuse({'JUDGE', value}, 'J')
    end
    index = ARGV[12]
elseif ARGV[4] == 'holder' or ARGV[4] == 'raw' then
    if ARGV[4] == 'holder' and not (is_ours and value == ARGV[6] and holder() == ARGV[5]) then
        return refuse({'NONE'})
    end
    local lock = ARGV[10] == '1' and is_ours and parse(value)
    index = lock and lock.index or ''
elseif ARGV[10] == '1' then
    local lock = is_ours and not was_judged and parse(value)
    if not lock then
        return refuse({'JUDGE', value}, 'J')
    end
    local compared = ({[''] = 0, repo = 1, place = 3, fields = 4})[ARGV[4]]
    local is_meant = ARGV[9] == '' or lock.num == tonumber(ARGV[9])
    for i = 1, compared do
        is_meant = is_meant and lock.fields[i] == ARGV[4 + i]
    end
    if not is_meant then
        if ARGV[4] == 'repo' then
            forget(ARGV[12] .. ARGV[5] .. '#' .. ARGV[9])
        end
        return refuse({'NONE'})
    end
    index = lock.index
elseif not is_ours or was_judged then
    return refuse({'JUDGE', value}, 'J')
end

-- The lock goes first: a full server lets a script go on once it has begun to free memory, and should anything fail behind it,
-- the indexes only hold more than there is.
redis.call('DEL', KEYS[1])
local token = is_ours and string.format('%.0f', last) or '0'
redis.call('HSET', KEYS[2], outcome, remembered(token), 'q', ids, 'of', '')
redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
if KEYS[3] then
    redis.pcall('ZREM', KEYS[3], ARGV[11])
end
forget(index)
return {'DONE', 'R' .. token .. ' ' .. value}
