-- Write a tenant's policy whole, so that no limit or price of an older one stays. `suspended` is kept, `removed` is not.
-- KEYS 1 tenant   ARGV pairs of field and value
-- Reply 1
local suspended = redis.call('HGET', KEYS[1], 'suspended')
redis.call('DEL', KEYS[1])
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if suspended then redis.call('HSET', KEYS[1], 'suspended', suspended) end
return 1
