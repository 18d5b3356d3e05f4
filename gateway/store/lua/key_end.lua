-- End an API key: at once and for good, or by a time. A key that ends sooner already is left as it is.
-- KEYS 1 key   ARGV 1 seconds until it expires, '' = revoke now
-- Reply 1, or 0 where there is no such key
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now_ms = math.floor(now_us() / 1000)
if ARGV[1] == '' then
  redis.call('HSETNX', KEYS[1], 'revoked', int(now_ms))
  return 1
end
local expires, wanted = redis.call('HGET', KEYS[1], 'expires'), now_ms + ARGV[1] * 1000
if not expires or wanted < tonumber(expires) then redis.call('HSET', KEYS[1], 'expires', int(wanted)) end
return 1
