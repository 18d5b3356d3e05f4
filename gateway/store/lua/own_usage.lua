-- Read the caller's own usage and where its budgets stand; counts as a read.
-- KEYS 1 tenant 2 key 3 gcra:read 4 active 5 budget 6 usage   ARGV 1 digest of the secret, then periods
-- Reply {'ok' or a refusal code, now ms, rate, standing, rows of each period, last days}
local TENANT, KEY, GCRA, ACTIVE, BUDGET, USAGE = unpack(KEYS)
local reply, now = enter(TENANT, KEY, GCRA, ARGV[1], 'read')
if reply[1] ~= 'ok' then return reply end

reply[4] = standing(TENANT, BUDGET, ACTIVE, windows_at(now))
reply[5], reply[6] = usage_rows(USAGE, ARGV, 2), last_days(BUDGET, now)
return reply
