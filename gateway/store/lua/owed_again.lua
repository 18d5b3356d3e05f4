-- Owe the webhook of a job that has ended once more, from its first attempt on, at once.
-- KEYS 1 owed 2 hook 3 job 4 unsent   ARGV 1 job id
-- Reply 1, or 0 where the job is not there, has no webhook, or has not ended
local j = record(KEYS[3])
if not j.webhook or not among(j.state, 'COMPLETED FAILED EXPIRED REJECTED') then
  redis.call('ZREM', KEYS[4], ARGV[1])
  return 0
end
redis.call('ZADD', KEYS[1], int(math.floor(now_us() / 1000)), owed_member(ARGV[1], j.webhook))
redis.call('ZREM', KEYS[4], ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'attempts', 0, 'state', 'pending') end
return 1
