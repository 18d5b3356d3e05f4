-- Record that an UNKNOWN job was looked up in vain.
-- KEYS 1 job   ARGV 1 '1' = the history could be read, '' = it could not
-- Reply since when every look could read it, Unix ms; '' = this one could not, or the job is not UNKNOWN any more
local j = record(KEYS[1])
if j.state ~= 'UNKNOWN' then return '' end
local now_ms = int(math.floor(now_us() / 1000))
redis.call('HSET', KEYS[1], 'looked', now_ms)
if ARGV[1] == '1' then redis.call('HSETNX', KEYS[1], 'readable', now_ms) else redis.call('HDEL', KEYS[1], 'readable') end
return redis.call('HGET', KEYS[1], 'readable') or ''
