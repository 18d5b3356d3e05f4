-- Read how the fleet stands with the vendor.   KEYS 1 blocked 2 asked
-- Reply {microseconds for which jobs are held back, the same of polls, microseconds of the running window, field, count, ...}
-- of `slot`'s counts
local now = now_us()
local blocked = redis.call('HMGET', KEYS[1], 'jobs', 'polls')
local asked = redis.call('HGETALL', KEYS[2])
local reply, since = {int(math.max(0, (blocked[1] or 0) - now)), int(math.max(0, (blocked[2] or 0) - now)), '0'}, now
for i = 1, #asked, 2 do
  if asked[i] == '@' then
    since = tonumber(asked[i + 1])
  else
    reply[#reply + 1], reply[#reply + 2] = asked[i], asked[i + 1]
  end
end
reply[3] = int(math.max(0, now - since))
return reply
