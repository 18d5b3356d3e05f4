-- Read the caller's own limits, counters and policy, counted against one of its rate limits.
-- KEYS 1 tenant 2 key 3 gcra of the limit 4 active 5 budget   ARGV 1 digest of the secret 2 'read' | 'submit'
-- Reply {'ok' or a refusal code, now ms, rate, standing, policy document}
local TENANT, KEY, GCRA, ACTIVE, BUDGET = unpack(KEYS)
local reply, now = enter(TENANT, KEY, GCRA, ARGV[1], ARGV[2])
if not reply[3] then return reply end

reply[4], reply[5] = standing(TENANT, BUDGET, ACTIVE, windows_at(now)), redis.call('HGET', TENANT, 'doc')
return reply
