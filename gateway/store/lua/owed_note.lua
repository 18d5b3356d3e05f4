-- Record what became of an attempt at a job's webhook. Where another process has recorded it first, nothing changes.
-- KEYS 1 owed 2 hook 3 job 4 unsent 5 held 6 webhook
-- ARGV 1 job id 2 attempts before 3 attempts after 4 state from now on 5 ms until the next attempt (of a pending one)
--      6 log 7 ms to hold the receiver (0 = not) 8 the tenant's own URL, to be disabled ('' = not)
-- Reply 1, or 0 where nothing changed
local OWED, HOOK, JOB, UNSENT, HELD, WEBHOOK = unpack(KEYS)
local job_id, before, after, state, retry_ms, log, hold_ms, disable = unpack(ARGV)
local j = record(JOB)
if not j.webhook then return 0 end
local member = owed_member(job_id, j.webhook)
if not redis.call('ZSCORE', OWED, member) or (redis.call('HGET', HOOK, 'attempts') or '0') ~= before then return 0 end

local now_ms = math.floor(now_us() / 1000)
redis.call('HSET', HOOK, 'attempts', after, 'state', state, 'log', log)
redis.call('PEXPIRE', HOOK, redis.call('PTTL', JOB)) -- a record of a job that has ended grows old
if state == 'pending' then
  redis.call('ZADD', OWED, int(now_ms + retry_ms), member)
else
  redis.call('ZREM', OWED, member)
end
if state == 'failed' or state == 'disabled' then
  redis.call('ZADD', UNSENT, int(now_ms), job_id)
  redis.call('ZREMRANGEBYRANK', UNSENT, 0, -10001)
end
local receiver = string.match(member, '^([^/]*)/')
if hold_ms ~= '0' then redis.call('ZADD', HELD, 'GT', int(now_ms + hold_ms), receiver) end
if state == 'delivered' and hold_ms == '0' then redis.call('ZREM', HELD, receiver) end
if disable ~= '' then redis.call('HSET', WEBHOOK, 'disabled', disable, 'disabled_at', int(now_ms)) end
return 1
