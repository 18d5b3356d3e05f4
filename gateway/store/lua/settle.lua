-- End a hold by charging it: the job becomes COMPLETED or EXPIRED. Running it again changes nothing.
-- KEYS 1 job 2 active 3 sending 4 budget 5 ledger 6 result 7 owed 8 vendor's id
-- ARGV 1 job id 2 new state 3 states that it may end 4 cost ('' = not reported: the hold) 5 vendor's id ('' = as known)
--      6 reason 7 actor 8 job ttl ms 9 result ttl ms, then field pairs of the result (none: nothing to keep)
-- Reply {changed, record}
local keys = {job = KEYS[1], active = KEYS[2], sending = KEYS[3], result = KEYS[6]}
local budget, ledger = KEYS[4], KEYS[5]
local job_id, state, from, reported, upstream_id, reason, actor, job_ttl, result_ttl = unpack(ARGV, 1, 9)
local j = record(keys.job)
if not j.state or not among(j.state, from) then return reply_job(0, keys.job) end

local hold = tonumber(j.hold)
local cost = tonumber(reported) or hold
local charged = math.min(cost, hold)
end_job(keys, job_id, state, job_ttl, {'cost', int(cost), 'estimated', reported == '' and '1' or '0', 'error', reason,
  'upstream_id', upstream_id ~= '' and upstream_id or j.upstream_id or ''})
if upstream_id ~= '' and upstream_id ~= j.upstream_id then own(KEYS[8], job_id) end
local spent, held = move(budget, j.windows, charged, -hold)
enter(ledger, budget, 'settle', job_id, j, charged, hold, spent, held, actor)
if cost > hold then
  spent, held = move(budget, j.windows, cost - hold, 0)
  enter(ledger, budget, 'overrun', job_id, j, cost - hold, 0, spent, held, actor)
end
owe(KEYS[7], job_id, j, state)
keep_result(keys, result_ttl, {unpack(ARGV, 10)})
return reply_job(1, keys.job)
