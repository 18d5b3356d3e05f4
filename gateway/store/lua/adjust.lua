-- Change what was charged, by an entry of its own. Running it again changes nothing.
-- KEYS 1 job 2 budget 3 ledger 4 usage 5 adjusted 6 vendor's id 7 tenant 8 alerts
-- ARGV 1 job id, or the vendor's id of a request that was none of ours 2 charged so far 3 charge from now on
--      4 vendor's id 5 model 6 key id 7 state 8 windows, '' = those of ARGV 9 9 Unix ms 10 actor 11 labels
-- Reply 1, or 0 where something else is charged by now, or the job has not ended
local job_id, was, target, upstream_id, model, key_id, state, windows, at_ms, actor, labels = unpack(ARGV)
local j = record(KEYS[1])
if j.state and among(j.state, 'SENDING ACCEPTED UNKNOWN') then return 0 end
if (redis.call('GET', KEYS[5]) or j.cost or was) ~= was or was == target then return 0 end
if windows == '' then windows = table.concat(windows_at(at_ms * 1000), ',') end
if j.state then redis.call('HSET', KEYS[1], 'cost', target, 'estimated', '0') end
redis.call('SET', KEYS[5], target, 'PX', 5184000000)
if upstream_id ~= '' then own(KEYS[6], job_id) end
local books = {budget = KEYS[2], ledger = KEYS[3], usage = KEYS[4], tenant = KEYS[7], alerts = KEYS[8]}
book(books, 'adjust', job_id, {model = model, key = key_id, state = state,
  upstream_id = upstream_id, windows = windows, labels = labels}, target - was, 0, actor, {adjusted = target - was})
return 1
