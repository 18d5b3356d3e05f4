-- Read API keys of one tenant.
-- KEYS the keys
-- Reply {now ms, then for each key {name, created, expires, revoked, used}}
local out = {int(math.floor(now_us() / 1000))}
for i, key in ipairs(KEYS) do
  out[i + 1] = redis.call('HMGET', key, 'name', 'created', 'expires', 'revoked', 'used')
end
return out
