-- Remember what a COMPLETED job cost and took: the last jobs of a model, newest first, as 'cost:duration ms,...'.
-- KEYS 1 learned   ARGV 1 model 2 'cost:duration ms', either empty where not known 3 jobs kept 4 models kept
-- Reply 1, or 0 where there are as many models already
local seen = redis.call('HGET', KEYS[1], ARGV[1])
if not seen and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
local kept, last = {ARGV[2]}, tonumber(ARGV[3])
for job in string.gmatch(seen or '', '[^,]+') do
  if #kept < last then kept[#kept + 1] = job end
end
redis.call('HSET', KEYS[1], ARGV[1], table.concat(kept, ','))
return 1
