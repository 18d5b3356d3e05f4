-- Lease the jobs of some shards that are due: until the lease ends nobody else gets them.
-- KEYS due queues   ARGV 1 at most of each 2 lease ms
-- Reply {now ms, how many are due and left, ms until the next is due ('' = empty queues), member, how late it is in ms, ...}
local now_ms = math.floor(now_us() / 1000)
local now, until_ms = int(now_ms), int(now_ms + ARGV[2])
local reply, left, following = {now, 0, ''}, 0, math.huge
for _, queue in ipairs(KEYS) do
  local due = redis.call('ZRANGE', queue, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
  for i = 1, #due, 2 do
    redis.call('ZADD', queue, until_ms, due[i])
    reply[#reply + 1], reply[#reply + 2] = due[i], int(now_ms - due[i + 1])
  end
  local first = tonumber(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2] or '')
  if first then following = math.min(following, first) end
  if first and first <= now_ms then left = left + redis.call('ZCOUNT', queue, '-inf', now) end
end
if following < math.huge then reply[3] = int(math.max(0, following - now_ms)) end
reply[2] = left
return reply
