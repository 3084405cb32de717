-- Releases a lock if it is the one meant.
--
-- ARGV[4] guard: '' any, 'repo' the repository, 'fields' all four fields, 'holder' taken by ARGV[5] with the value ARGV[6],
-- 'raw' whatever it is
-- ARGV[5] repository   ARGV[6] path   ARGV[7] workspace   ARGV[8] project   ARGV[9] pull number, or '' for any
-- ARGV[10] '1' for a project lock   ARGV[11] member of the indexes   ARGV[12] what the names of the pulls' indexes begin with
-- Returns {'NONE'}, {'UNREADABLE', reason}, or {'DONE', 'R<value>'}.
local value = redis.call('GET', KEYS[1])

-- The fields of a project lock, by the rules of ProjectLock::parse; nil and a reason if it is not one.
local function parse(json)
    local ok, lock = pcall(cjson.decode, json)
    if not ok or type(lock) ~= 'table' then
        return nil, 'it is not a JSON object'
    end
    local project, pull = lock['Project'], lock['Pull']
    if type(project) ~= 'table' or type(pull) ~= 'table' then
        return nil, 'Project or Pull is missing'
    end
    local name = project['ProjectName']
    if name == nil then
        name = ''
    end
    local fields = {project['RepoFullName'], project['Path'], lock['Workspace'], name}
    for i = 1, 4 do
        if type(fields[i]) ~= 'string' then
            return nil, 'one of RepoFullName, Path, Workspace, ProjectName is missing'
        end
    end
    if fields[1] == '' or type(pull['Num']) ~= 'number' then
        return nil, 'RepoFullName or Pull.Num is missing'
    end
    -- A double holds each whole number below 2^53, and cannot tell those above apart.
    if pull['Num'] ~= math.floor(pull['Num']) or math.abs(pull['Num']) >= 9007199254740992 then
        return nil, 'Pull.Num is not a whole number below 2^53'
    end
    return {fields = fields, num = pull['Num']}
end

-- The index may name a lock that is gone, or another pull's by now: this is where it is put right.
local function forget(index)
    if KEYS[3] then
        -- A key of another type there is another program's, and must not stop us.
        redis.pcall('SREM', index, ARGV[11])
    end
end

if not value then
    if ARGV[4] == 'repo' then
        forget(ARGV[12] .. ARGV[5] .. '#' .. ARGV[9])
    end
    return refuse({'NONE'})
end

local lock, reason
if ARGV[4] == 'holder' then
    if redis.call('HGET', KEYS[2], 'holder') ~= ARGV[5] or value ~= ARGV[6] then
        return refuse({'NONE'})
    end
    lock = parse(value)
elseif ARGV[10] == '1' then
    lock, reason = parse(value)
    if not lock then
        if ARGV[4] ~= 'raw' then
            return refuse({'UNREADABLE', reason})
        end
    elseif ARGV[4] ~= 'raw' then
        local compared = ({[''] = 0, repo = 1, fields = 4})[ARGV[4]]
        for i = 1, compared do
            if lock.fields[i] ~= ARGV[4 + i] then
                return refuse({'NONE'})
            end
        end
        if ARGV[9] ~= '' and lock.num ~= tonumber(ARGV[9]) then
            if ARGV[4] == 'repo' then
                forget(ARGV[12] .. ARGV[5] .. '#' .. ARGV[9])
            end
            return refuse({'NONE'})
        end
    end
elseif ARGV[4] ~= 'raw' and not pcall(cjson.decode, value) then
    return refuse({'UNREADABLE', 'it is not JSON'})
end

-- The lock goes first: a full server lets a script go on once it has begun to free memory, and should anything fail behind it,
-- the indexes only hold more than there is.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], outcome, 'R' .. value, 'q', ids)
redis.call('PEXPIRE', KEYS[2], SIDE_TTL)
if KEYS[3] then
    redis.pcall('ZREM', KEYS[3], ARGV[11])
end
if lock then
    forget(ARGV[12] .. lock.fields[1] .. '#' .. string.format('%.0f', lock.num))
end
return {'DONE', 'R' .. value}
