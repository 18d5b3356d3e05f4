-- Read the caller's own limits, counters and policy, counted against one of its rate limits.
-- KEYS 1 tenant 2 key 3 gcra of the limit 4 active 5 budget   ARGV 1 digest of the secret 2 'read' | 'submit'
-- Reply {'ok' or a refusal code, now ms, rate, standing, policy document}
local TENANT, KEY, GCRA, ACTIVE, BUDGET = unpack(KEYS)
local now = now_us()
local now_ms = int(math.floor(now / 1000))
local denied = authenticate(TENANT, KEY, ARGV[1], tonumber(now_ms))
if denied then return {denied, now_ms} end

local t = redis.call('HMGET', TENANT, ARGV[2], 'doc')
local bucket = gcra(GCRA, t[1], now)
local state = standing(TENANT, BUDGET, ACTIVE, windows_at(now))
if not bucket.ok then return {'rate_limited', now_ms, rate(t[1], bucket.idle, bucket.retry_us), state, t[2]} end
gcra_take(GCRA, bucket.tat, now)
return {'ok', now_ms, rate(t[1], bucket.taken, 0), state, t[2]}
