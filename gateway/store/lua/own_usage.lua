-- Read the caller's own usage and where its budgets stand; counts as a read.
-- KEYS 1 tenant 2 key 3 gcra:read 4 active 5 budget 6 usage   ARGV 1 digest of the secret, then periods
-- Reply {'ok' or a refusal code, now ms, rate, standing, rows of each period, last days}
local TENANT, KEY, GCRA, ACTIVE, BUDGET, USAGE = unpack(KEYS)
local now = now_us()
local now_ms = int(math.floor(now / 1000))
local denied = authenticate(TENANT, KEY, ARGV[1], tonumber(now_ms))
if denied then return {denied, now_ms} end

local spec = redis.call('HGET', TENANT, 'read')
local bucket = gcra(GCRA, spec, now)
if not bucket.ok then return {'rate_limited', now_ms, rate(spec, bucket.idle, bucket.retry_us)} end
gcra_take(GCRA, bucket.tat, now)
local state = standing(TENANT, BUDGET, ACTIVE, windows_at(now))
return {'ok', now_ms, rate(spec, bucket.taken, 0), state, usage_rows(USAGE, ARGV, 2), last_days(BUDGET, now)}
