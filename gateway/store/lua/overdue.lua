-- Record how overdue a running job is.   KEYS 1 job   ARGV 1 level   Reply 1, or 0 where as much was on record
local j = record(KEYS[1])
if j.state ~= 'ACCEPTED' or tonumber(j.overdue or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'overdue', ARGV[1])
return 1
