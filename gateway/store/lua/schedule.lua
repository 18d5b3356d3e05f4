-- Set when jobs of some shards are due.   KEYS due queues
-- ARGV 1 '' = move queued ones, 'LT' = only ahead, 'NX' = only ahead and only those that are late already, or due more than
--      ten minutes from now: nobody puts a job off for so long, but a clock that was set back does;
--      then triples: which of KEYS, member, ms from now   Reply how many were added
local now_ms = math.floor(now_us() / 1000)
local added = 0
for i = 2, #ARGV, 3 do
  local queue, member, at = KEYS[tonumber(ARGV[i])], ARGV[i + 1], now_ms + ARGV[i + 2]
  local queued = ARGV[1] ~= '' and tonumber(redis.call('ZSCORE', queue, member) or '')
  if not queued or (at < queued and (ARGV[1] == 'LT' or queued <= now_ms or queued > now_ms + 600000)) then
    added = added + redis.call('ZADD', queue, int(at), member)
  end
end
return added
