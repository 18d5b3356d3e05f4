-- Read a tenant's usage and where its budgets stand.
-- KEYS 1 tenant 2 active 3 budget 4 usage   ARGV periods   Reply {now ms, standing, rows of each period, last days}
local now = now_us()
local state = standing(KEYS[1], KEYS[3], KEYS[2], windows_at(now))
return {int(math.floor(now / 1000)), state, usage_rows(KEYS[4], ARGV, 1), last_days(KEYS[3], now)}
