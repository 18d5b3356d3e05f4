-- Read a job's webhook with all that sending it takes. A tenant without a signing secret gets the one given.
-- KEYS 1 owed 2 hook 3 job 4 tenant 5 webhook   ARGV 1 job id 2 secret ('' = make none) 3 what is owed
--   (receiver/job; forgotten where the job is no longer on record)
-- Reply {due at ms ('' = not owed), hook {attempts, state, log}, record, tenant {doc, removed},
--        webhook {secret, old, disabled}}; old only while it is good
local OWED, HOOK, JOB, TENANT, WEBHOOK = unpack(KEYS)
local j, values = record(JOB)
local due = j.webhook and redis.call('ZSCORE', OWED, owed_member(ARGV[1], j.webhook)) or ''
if not j.state then redis.call('ZREM', OWED, ARGV[3]) end
if ARGV[2] ~= '' then redis.call('HSETNX', WEBHOOK, 'secret', ARGV[2]) end
local w = redis.call('HMGET', WEBHOOK, 'secret', 'old', 'old_until', 'disabled')
local old = w[2] and tonumber(w[3]) * 1000 > now_us() and w[2] or ''
return {due, redis.call('HMGET', HOOK, 'attempts', 'state', 'log'), values,
  redis.call('HMGET', TENANT, 'doc', 'removed'), {w[1] or '', old, w[4] or ''}}
