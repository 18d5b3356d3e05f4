-- Read a tenant's UNKNOWN jobs.
-- KEYS 1 sending 2 what the names of the tenant's job records begin with: which are read only the index tells, and the
--      tag in the name keeps them on the same slot
-- Reply {now ms, then for each job: record, since when every look could read the history, when it was last looked up}
local reply = {int(math.floor(now_us() / 1000))}
local RECORDS = KEYS[2]
local sending = redis.call('HGETALL', KEYS[1])
for i = 1, #sending, 2 do
  local id, owner = sending[i], sending[i + 1]
  if owner == '?' then
    local _, values = record(RECORDS .. id)
    local looks = redis.call('HMGET', RECORDS .. id, 'readable', 'looked')
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = values, looks[1], looks[2]
  end
end
return reply
