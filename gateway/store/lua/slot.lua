-- Take a place among the jobs that the whole fleet may send (`policy.upstream_rpm`), and count who asked for one.
-- KEYS 1 everybody's bucket 2 the tenant's 3 asked: `@` = since when, `n:<tenant>` now, `b:<tenant>` in the window before
-- ARGV 1 tenant 2 microseconds after which a place comes back 3 places at once 4 of them, kept for tenants within their
--      share 5 6 as 2 and 3, of the tenant's share 7 window, microseconds
-- Reply microseconds until a place may be had; 0: it was taken
local now = now_us()
local tenant, interval, burst, kept, own_interval, own_burst, window = unpack(ARGV)
local function bucket(key, places, each) return gcra(key, '0:0:' .. places .. ':' .. each, now) end

local since = tonumber(redis.call('HGET', KEYS[3], '@') or 0)
local age = now - since
if age >= tonumber(window) or age < 0 then
  local asked = redis.call('HGETALL', KEYS[3])
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], '@', int(now))
  for i = 1, #asked, 2 do
    local who = string.match(asked[i], '^n:(.*)$')
    if who and age >= 0 and age < 2 * window then redis.call('HSET', KEYS[3], 'b:' .. who, asked[i + 1]) end
  end
end
redis.call('HINCRBY', KEYS[3], 'n:' .. tenant, 1)
redis.call('PEXPIRE', KEYS[3], int(math.ceil(3 * window / 1000)))

local all, own = bucket(KEYS[1], burst, interval), bucket(KEYS[2], own_burst, own_interval)
if not all.ok then return int(math.max(1, all.retry_us)) end
local spare = all.idle[1] - kept
if not own.ok and spare <= 0 then return int(math.max(1, math.min(own.retry_us, (1 - spare) * interval))) end
gcra_take(KEYS[1], all.tat, now)
if own.ok then gcra_take(KEYS[2], own.tat, now) end
return 0
