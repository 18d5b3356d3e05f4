-- Read a tenant's newest jobs. At most 1000 entries of the index are looked at.
-- KEYS 1 jobs 2 what the names of the tenant's job records begin with (as in page.lua)
-- ARGV 1 at most 2 state, '' = any   Reply records
local JOBS, RECORDS = unpack(KEYS)
local found = {}
for first = 0, 900, 100 do
  local ids = redis.call('ZRANGE', JOBS, int(first), int(first + 99), 'REV')
  for _, id in ipairs(ids) do
    local j, values = record(RECORDS .. id)
    if j.state and (ARGV[2] == '' or j.state == ARGV[2]) then found[#found + 1] = values end
    if #found == tonumber(ARGV[1]) then return found end
  end
  if #ids < 100 then return found end
end
return found
