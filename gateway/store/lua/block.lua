-- Hold back a kind of calls to the vendor, for the whole fleet: until the later of what was said before and now.
-- KEYS 1 blocked   ARGV 1 jobs | polls 2 microseconds 3 longest that anyone may say   Reply microseconds until they go on
local now = now_us()
-- Further ahead than anyone says it is not by the vendor, but by a clock that was set back.
local before = math.min(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0), now + ARGV[3])
local ends = math.max(before, now + math.min(tonumber(ARGV[2]), tonumber(ARGV[3])))
redis.call('HSET', KEYS[1], ARGV[1], int(ends))
redis.call('PEXPIRE', KEYS[1], int(math.ceil(ARGV[3] / 1000)))
return int(ends - now)
