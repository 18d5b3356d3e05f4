-- End a hold by charging it: the job becomes COMPLETED or EXPIRED. Running it again changes nothing.
-- KEYS 1 job 2 active 3 sending 4 budget 5 ledger 6 result 7 owed 8 usage 9 tenant 10 alerts 11 vendor's id
-- ARGV 1 job id 2 new state 3 states that it may end 4 cost ('' = not reported: the hold) 5 vendor's id ('' = as known)
--      6 reason 7 actor 8 job ttl ms 9 result ttl ms, then field pairs of the result (none: nothing to keep)
-- Reply {changed, record}
local keys = {job = KEYS[1], active = KEYS[2], sending = KEYS[3], budget = KEYS[4], ledger = KEYS[5], result = KEYS[6],
  usage = KEYS[8], tenant = KEYS[9], alerts = KEYS[10]}
local job_id, state, from, reported, upstream_id, reason, actor, job_ttl, result_ttl = unpack(ARGV, 1, 9)
local j = record(keys.job)
if not j.state or not among(j.state, from) then return reply_job(0, keys.job) end

local hold = tonumber(j.hold)
local cost = tonumber(reported) or hold
local charged = math.min(cost, hold)
if upstream_id ~= '' and upstream_id ~= j.upstream_id then own(KEYS[11], job_id) end
owe(KEYS[7], job_id, j)
j.state, j.upstream_id = state, upstream_id ~= '' and upstream_id or j.upstream_id or ''
end_job(keys, job_id, state, job_ttl, {'cost', int(cost), 'estimated', reported == '' and '1' or '0', 'error', reason,
  'upstream_id', j.upstream_id})
local took_ms = math.floor(now_us() / 1000) - j.created
local counts = {[string.lower(state)] = 1}
if state == 'COMPLETED' then counts['took_' .. bucket_of(took_ms)] = 1 end
book(keys, 'settle', job_id, j, charged, -hold, actor, counts)
if cost > hold then book(keys, 'overrun', job_id, j, cost - hold, 0, actor, {overrun = cost - hold}) end
keep_result(keys, result_ttl, {unpack(ARGV, 10)})
return reply_job(1, keys.job)
