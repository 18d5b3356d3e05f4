-- Take jobs whose record is gone out of a tenant's index: all that are too old, and of a day's those refused at once.
-- KEYS 1 jobs 2 what the names of the tenant's job records begin with (as in page.lua)
-- ARGV 1 ms for which jobs are kept 2 ms for which those refused at once are 3 created ms to go on from, '' = a day before the
--      latter 4 entries at most
-- Reply created ms to go on from, '' = no more
local JOBS, RECORDS = unpack(KEYS)
local now_ms = math.floor(now_us() / 1000)
redis.call('ZREMRANGEBYSCORE', JOBS, '-inf', int(now_ms - ARGV[1]))

local ends = now_ms - ARGV[2]
local begins = tonumber(ARGV[3]) or ends - 86400000
local looked = redis.call('ZRANGE', JOBS, int(begins), int(ends), 'BYSCORE', 'LIMIT', 0, ARGV[4], 'WITHSCORES')
for i = 1, #looked, 2 do
  local id = looked[i]
  if redis.call('EXISTS', RECORDS .. id) == 0 then redis.call('ZREM', JOBS, id) end
end
if #looked < 2 * ARGV[4] then return '' end
return int(math.max(tonumber(looked[#looked]), begins + 1))
