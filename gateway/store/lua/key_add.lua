-- Record a new API key of a tenant that is on record and not removed.
-- KEYS 1 tenant 2 key ids 3 key   ARGV 1 key id 2 digest of the secret 3 name 4 life in seconds ('' = for ever)
-- Reply 1, or 0 where there is no such tenant
local t = redis.call('HMGET', KEYS[1], 'submit', 'removed')
if not t[1] or t[2] then return 0 end
local now_ms = math.floor(now_us() / 1000)
redis.call('HSET', KEYS[3], 'digest', ARGV[2], 'name', ARGV[3], 'created', int(now_ms))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], 'expires', int(now_ms + ARGV[4] * 1000)) end
redis.call('SADD', KEYS[2], ARGV[1])
return 1
