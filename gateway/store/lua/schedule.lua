-- Set when jobs of one shard are due.   KEYS 1 due queue
-- ARGV 1 '' = move queued ones, 'LT' = only ahead, 'NX' = only ahead and only those that are late already;
--      then pairs: member, ms from now   Reply how many were added
local now_ms = math.floor(now_us() / 1000)
local added = 0
for i = 2, #ARGV, 2 do
  local at = now_ms + ARGV[i + 1]
  local queued = ARGV[1] ~= '' and tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '')
  if not queued or (at < queued and (ARGV[1] == 'LT' or queued <= now_ms)) then
    added = added + redis.call('ZADD', KEYS[1], int(at), ARGV[i])
  end
end
return added
