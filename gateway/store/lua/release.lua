-- End a hold without a charge: the job becomes FAILED or REJECTED. Running it again changes nothing.
-- The idempotency key of a job that is REJECTED already, be it by the evidence, is forgotten too: its retry was asked for.
-- With code 'voided', a job that is not on record leaves a tombstone, so that its admission can't arrive later.
-- KEYS 1 job 2 active 3 sending 4 budget 5 ledger 6 result 7 owed 8 usage 9 tenant 10 alerts 11 idempotency record to forget (with ARGV 6)
-- ARGV 1 job id 2 new state 3 states that it may end 4 code 5 reason 6 '1' = forget the idempotency key 7 actor
--      8 ttl ms of a job refused at once 9 of any other 10 result ttl ms, then field pairs of the result (none: nothing to keep)
-- Reply {changed, record}
local keys = {job = KEYS[1], active = KEYS[2], sending = KEYS[3], budget = KEYS[4], ledger = KEYS[5], result = KEYS[6],
  usage = KEYS[8]}
local idempotency = KEYS[11]
local job_id, state, from, code, reason, forget, actor, refused_ttl, job_ttl, result_ttl = unpack(ARGV, 1, 10)
local j = record(keys.job)
if not j.state and code == 'voided' then
  redis.call('HSET', keys.job, 'voided', '1')
  redis.call('PEXPIRE', keys.job, 3600000)
end
local ends = j.state and among(j.state, from)
local forgets = forget == '1' and (ends or (j.state == 'REJECTED' and state == 'REJECTED'))
if forgets and redis.call('HGET', idempotency, 'job') == job_id then redis.call('DEL', idempotency) end
if not ends then return reply_job(0, keys.job) end

-- Who is refused at once has had the answer: none is owed, and the record is kept only for the key's sake.
local at_once = j.state == 'SENDING' and state == 'REJECTED'
end_job(keys, job_id, state, at_once and refused_ttl or job_ttl, {'code', code, 'error', reason})
if not at_once then owe(KEYS[7], job_id, j) end
j.state = state
local counts = {[string.lower(state)] = 1}
if state == 'REJECTED' and code ~= '' then counts['rejected_' .. code] = 1 end
book(keys, 'release', job_id, j, 0, -j.hold, actor, counts)
keep_result(keys, result_ttl, {unpack(ARGV, 11)})
return reply_job(1, keys.job)
