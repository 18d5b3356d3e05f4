-- Record that nobody knows whether the vendor has the job: SENDING -> UNKNOWN. The hold stays.
-- KEYS 1 job 2 sending   ARGV 1 job id 2 reason   Reply {changed, record}
local j = record(KEYS[1])
if j.state ~= 'SENDING' then return reply_job(0, KEYS[1]) end
redis.call('HSET', KEYS[1], 'state', 'UNKNOWN', 'error', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], '?')
return reply_job(1, KEYS[1])
