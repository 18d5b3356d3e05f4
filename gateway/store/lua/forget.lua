-- Take jobs that have ended out of some shards.   KEYS due queues
-- ARGV pairs: which of KEYS, member   Reply how many there were
local removed = 0
for i = 1, #ARGV, 2 do
  local queue = KEYS[tonumber(ARGV[i])]
  removed = removed + redis.call('ZREM', queue, ARGV[i + 1])
end
return removed
