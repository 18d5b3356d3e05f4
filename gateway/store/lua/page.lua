-- List a tenant's jobs for its caller, newest first: key check, read limit and one page of records in one trip.
-- At most 250 entries of the index are looked at (1 ms); the cursor goes on from there.
-- KEYS 1 tenant 2 key 3 gcra:read 4 jobs 5 what the names of the tenant's job records begin with: which records are read
--      only the index tells, and the tag in the name keeps them on the same slot
-- ARGV 1 digest of the secret 2 at most 3 job id to go on after, '' = from the newest 4 created since, ms
--      5 model, '' = any 6 'state/status' words to list, '' = any
-- Reply {'ok' or a refusal code, now ms, rate, records, job id to go on after, '' = no more}
local TENANT, KEY, GCRA, JOBS, RECORDS = unpack(KEYS)
local digest, limit, cursor, since, model, states = unpack(ARGV)
local reply = enter(TENANT, KEY, GCRA, digest, 'read')
if reply[1] ~= 'ok' then return reply end

local listed = {}
for word in string.gmatch(states, '%S+') do listed[word] = true end

-- The record, where it is still there and was asked for.
local function wanted(id)
  if model ~= '' or states ~= '' then
    local j = redis.call('HMGET', RECORDS .. id, 'model', 'state', 'status')
    if model ~= '' and j[1] ~= model or not j[2] then return nil end
    if states ~= '' and not listed[j[2] .. '/' .. (j[3] or 'QUEUED')] then return nil end
  end
  local j, values = record(RECORDS .. id)
  return j.state and values
end

local function page(from)
  local found, last = {}, ''
  for first = from, from + 200, 50 do
    local entries = redis.call('ZRANGE', JOBS, int(first), int(first + 49), 'REV', 'WITHSCORES')
    for i = 1, #entries, 2 do
      if tonumber(entries[i + 1]) < tonumber(since) then return found, '' end
      if #found == tonumber(limit) then return found, last end
      last = entries[i]
      found[#found + 1] = wanted(last)
    end
    if #entries < 100 then return found, '' end
  end
  return found, last
end

-- The rank of the first entry after the cursor. Its own may have left the index: then its id (UUIDv7) says since when.
local function after_cursor()
  if cursor == '' then return 0 end
  local rank = redis.call('ZREVRANK', JOBS, cursor)
  if rank then return rank + 1 end
  local made_ms = tonumber(string.sub(cursor, 1, 8) .. string.sub(cursor, 10, 13), 16)
  return redis.call('ZCOUNT', JOBS, '(' .. int(made_ms), '+inf')
end

reply[4], reply[5] = page(after_cursor())
return reply
