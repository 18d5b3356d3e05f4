-- Count polls against the rate of the whole fleet (a virtual schedule, as of GCRA, that is paid after the fact).
-- KEYS 1 pace   ARGV 1 polls 2 microseconds that each takes up   Reply microseconds until the next poll may be made
local now = now_us()
local cost = ARGV[1] * ARGV[2]
-- Further ahead than this it is not by polls, but by a clock that was set back.
local longest = 60000000 + 100 * ARGV[2]
local free = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + longest)
redis.call('SET', KEYS[1], int(free + cost), 'PX', int(math.ceil((free + cost - now) / 1000) + 1000))
return int(free + cost - now)
