-- Lease the jobs of one shard that are due: until the lease ends nobody else gets them.
-- KEYS 1 due queue   ARGV 1 at most 2 lease ms
-- Reply {now ms, how many are due and left, ms until the next is due ('' = empty queue), member, how late it is in ms, ...}
local now_ms = math.floor(now_us() / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', int(now_ms), 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
local reply = {int(now_ms), 0, ''}
for i = 1, #due, 2 do
  redis.call('ZADD', KEYS[1], int(now_ms + ARGV[2]), due[i])
  reply[i + 3], reply[i + 4] = due[i], int(now_ms - due[i + 1])
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if first then reply[3] = int(math.max(0, first - now_ms)) end
if first and tonumber(first) <= now_ms then reply[2] = redis.call('ZCOUNT', KEYS[1], '-inf', int(now_ms)) end
return reply
