-- Claim a vendor's id that another job claimed and has no use for.
-- KEYS 1 claim   ARGV 1 2 tenant/job: the former one, this one 3 seconds   Reply 1, or 0 where it is a third one's by now
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
