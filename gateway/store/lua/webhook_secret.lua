-- Read a tenant's signing secret, made where there is none; or put another one in its place.
-- KEYS 1 webhook   ARGV 1 a new secret 2 ms for which the old one still signs too ('' = keep the secret that is there)
-- Reply the secret
local secret = redis.call('HGET', KEYS[1], 'secret')
if secret and ARGV[2] == '' then return secret end
if secret then
  redis.call('HSET', KEYS[1], 'old', secret, 'old_until', int(math.floor(now_us() / 1000) + ARGV[2]))
end
redis.call('HSET', KEYS[1], 'secret', ARGV[1])
return ARGV[1]
