-- Record the vendor's id: SENDING or UNKNOWN -> ACCEPTED. Running it again changes nothing.
-- KEYS 1 job 2 sending 3 vendor's id   ARGV 1 job id 2 vendor's id 3 state that the job must be in
-- Reply {changed, record}
local j = record(KEYS[1])
if j.state ~= ARGV[3] then return reply_job(0, KEYS[1]) end
local now_ms = int(math.floor(now_us() / 1000))
redis.call('HSET', KEYS[1], 'state', 'ACCEPTED', 'upstream_id', ARGV[2], 'accepted', now_ms, 'confirmed', now_ms,
  'status', 'QUEUED', 'error', '')
redis.call('HDEL', KEYS[2], ARGV[1])
own(KEYS[3], ARGV[1])
return reply_job(1, KEYS[1])
