-- Set or clear a mark on a tenant. Either mark has every call of the tenant refused.
-- KEYS 1 tenant   ARGV 1 'suspended' | 'removed' 2 '1' = set, '' = clear
-- Reply 1, or 0 where there is no such tenant
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], '1')
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
