-- Record the vendor's word on a running job. An older word than the last changes nothing but the job's age.
-- KEYS 1 job   ARGV 1 QUEUED | PROCESSING | '' = the vendor does not know the job   Reply {changed, record}
local j = record(KEYS[1])
if j.state ~= 'ACCEPTED' then return reply_job(0, KEYS[1]) end
local now_ms = int(math.floor(now_us() / 1000))
if ARGV[1] == '' then return reply_job(redis.call('HSETNX', KEYS[1], 'missing', now_ms), KEYS[1]) end
redis.call('HSET', KEYS[1], 'confirmed', now_ms)
redis.call('HDEL', KEYS[1], 'missing')
-- The end of a job is for settle and release to record, never for this.
if ARGV[1] ~= 'PROCESSING' or j.status == 'PROCESSING' then return reply_job(0, KEYS[1]) end
redis.call('HSET', KEYS[1], 'status', 'PROCESSING')
return reply_job(1, KEYS[1])
