-- Decide on a new job and, if it is admitted, put it on record with its hold: everything or nothing.
-- KEYS 1 tenant 2 key 3 gcra:submit 4 active 5 budget 6 job 7 idempotency 8 ledger 9 jobs 10 sending 11 usage 12 alerts
-- ARGV 1 digest of the secret 2 model 3 estimate (nanocredits, '' = unpriced) 4 '1' with an idempotency key
--      5 fingerprint 6 job id 7 owner 8 'admit' | 'quote' 9 idempotency ttl ms
--      10 webhook: '' = the tenant's own, '-' = none, else the spellings of the host that the record's URL names;
--      then pairs for the record
-- Reply {verdict, now ms, rate, standing, detail}; verdict: admitted, replayed, voided, or a refusal code.
--       detail: admitted {hold, windows, webhook's URL or ''}; replayed and idempotency_* {job id}; budget_exhausted {hold, window index}
local TENANT, KEY, GCRA, ACTIVE, BUDGET, JOB, IDEM, LEDGER, JOBS, SENDING, USAGE, ALERTS = unpack(KEYS)
local digest, model, estimate, has_key, fingerprint, job_id, owner, mode = unpack(ARGV, 1, 8)
local webhook, fields = ARGV[10], {unpack(ARGV, 11)}
local now = now_us()
local now_ms = int(math.floor(now / 1000))

local denied, spec = authenticate(TENANT, KEY, digest, tonumber(now_ms), 'submit')
if denied then return {denied, now_ms} end

local t = redis.call('HMGET', TENANT, 'models', 'require_key', 'concurrent', 'price:' .. model, 'webhook', 'webhook_hosts')
local windows = windows_at(now)
local bucket = gcra(GCRA, spec, now)
local function reply(verdict, detail)
  local left = verdict == 'admitted' and bucket.taken or bucket.idle
  local retry_us = verdict == 'rate_limited' and bucket.retry_us or 0
  return {verdict, now_ms, rate(spec, left, retry_us), standing(TENANT, BUDGET, ACTIVE, windows), detail or {}}
end

if not allows(t[1], model) then return reply('model_not_allowed') end
if has_key == '1' then
  local seen = redis.call('HMGET', IDEM, 'job', 'fingerprint')
  if seen[1] and seen[2] ~= fingerprint then return reply('idempotency_mismatch', {seen[1]}) end
  if seen[1] then return reply('replayed', {seen[1]}) end
elseif t[2] == '1' then
  return reply('idempotency_key_required')
end
if webhook == '' and t[5] then
  fields[#fields + 1], fields[#fields + 2] = 'webhook', t[5]
elseif webhook ~= '' and webhook ~= '-' and not listed(t[6] or '', webhook) then
  return reply('webhook_not_allowed')
end
if not bucket.ok then return reply('rate_limited') end
if redis.call('ZCARD', ACTIVE) >= tonumber(t[3]) then return reply('concurrency_limited') end

local hold = tonumber(t[4] or estimate)
if not hold then return reply('model_not_allowed') end
for i, id in ipairs(windows) do
  local limit = redis.call('HGET', TENANT, 'limit:' .. WINDOWS[i])
  if limit then
    local c = redis.call('HMGET', BUDGET, id .. ':spent', id .. ':held')
    local room = limit - (c[1] or 0) - (c[2] or 0)
    if hold > room or room <= 0 then return reply('budget_exhausted', {int(hold), int(i)}) end
  end
end
if mode == 'quote' then return reply('admitted', {int(hold), table.concat(windows, ','), ''}) end
if redis.call('EXISTS', JOB) == 1 then return reply('voided') end

redis.call('HSET', JOB, 'id', job_id, 'state', 'SENDING', 'model', model, 'hold', int(hold), 'created', now_ms,
  'windows', table.concat(windows, ','), 'fingerprint', fingerprint, unpack(fields))
redis.call('ZADD', ACTIVE, now_ms, job_id)
redis.call('ZADD', JOBS, now_ms, job_id)
redis.call('HSET', SENDING, job_id, owner)
gcra_take(GCRA, bucket.tat, now)
local j = record(JOB)
local books = {tenant = TENANT, budget = BUDGET, ledger = LEDGER, usage = USAGE, alerts = ALERTS}
book(books, 'hold', job_id, j, 0, hold, 'key:' .. j.key, {jobs = 1})
if has_key == '1' then
  redis.call('HSET', IDEM, 'job', job_id, 'fingerprint', fingerprint)
  redis.call('PEXPIRE', IDEM, ARGV[9])
end
return reply('admitted', {int(hold), j.windows, j.webhook or ''})
