-- Shared by every script: put in front of each. Amounts are nanocredits, times microseconds (_us) or
-- milliseconds (_ms) of the server's own clock; all integers below 2^53, so that doubles hold them exactly.

local WINDOWS = {'day', 'week', 'month', 'total'}

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function int(n) return string.format('%.0f', n) end

-- Civil date of a day number since 1970-01-01 (proleptic Gregorian; H. Hinnant, "chrono-compatible date algorithms").
local function civil(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year, month, doy - math.floor((153 * mp + 2) / 5) + 1
end

-- Ids of the four windows that a moment falls into, in the order of WINDOWS; weeks are named by their Monday.
local function windows_at(us)
  local day = math.floor(us / 86400000000)
  local y, m, d = civil(day)
  local wy, wm, wd = civil(day - (day + 3) % 7)
  return {
    string.format('day:%04d-%02d-%02d', y, m, d), string.format('week:%04d-%02d-%02d', wy, wm, wd),
    string.format('month:%04d-%02d', y, m), 'total',
  }
end

-- nil and a rate limit's spec ('submit' or 'read') for a key that may act for its tenant, else a refusal code. Notes
-- the use, at most once a minute.
local function authenticate(tenant_key, key_key, digest, now_ms, limit)
  local k = redis.call('HMGET', key_key, 'digest', 'revoked', 'expires', 'used')
  local dead = k[2] or (k[3] and now_ms >= tonumber(k[3]))
  if not k[1] or k[1] ~= digest or dead then return 'unauthenticated' end
  local t = redis.call('HMGET', tenant_key, limit, 'suspended', 'removed')
  if not t[1] or t[3] then return 'unauthenticated' end -- who is not in gateway.yaml any more is as unknown as any
  if t[2] then return 'tenant_suspended' end
  if now_ms - tonumber(k[4] or 0) > 60000 then redis.call('HSET', key_key, 'used', int(now_ms)) end
  return nil, t[1]
end

-- GCRA (the cell rate algorithm of ATM, as a virtual schedule). `spec` is limit:period_s:burst:interval_us.
-- Returns the decision on one more request, and what is left with (`taken`) and without it (`idle`); writes nothing.
-- An arrival time further ahead than a full burst is not of this limit or not of this clock (a policy that changed, a
-- clock that was set back). It is cut to a burst with room for one request, whose admission then writes the cut.
local function gcra(key, spec, now)
  local burst, interval = string.match(spec, '^%d+:%d+:(%d+):(%d+)$')
  local size = burst * interval
  local tat = math.max(tonumber(redis.call('GET', key) or 0), now)
  if tat > now + size then tat = now + size - interval end
  local function left(at) return {math.floor((size - (at - now)) / interval), at - now} end
  local late = tat + interval - now - size
  if late > 0 then return {ok = false, idle = left(tat), retry_us = late} end
  return {ok = true, tat = tat + interval, idle = left(tat), taken = left(tat + interval), retry_us = 0}
end

local function gcra_take(key, tat, now)
  redis.call('SET', key, int(tat), 'PX', int(math.ceil((tat - now) / 1000) + 1000))
end

-- Where a rate limit stands, for headers: {spec, remaining, reset_us, retry_us}.
local function rate(spec, left, retry_us) return {spec, left[1], left[2], retry_us} end

-- What a tenant's own reads begin with: key check, and one request counted against a limit.
-- Returns the reply so far and the time: {'ok', now ms, rate}, to which is added what was asked for; {'rate_limited',
-- now ms, rate}; or {another refusal code, now ms}.
local function enter(tenant_key, key_key, gcra_key, digest, limit)
  local now = now_us()
  local now_ms = math.floor(now / 1000)
  local denied, spec = authenticate(tenant_key, key_key, digest, now_ms, limit)
  if denied then return {denied, int(now_ms)}, now end
  local bucket = gcra(gcra_key, spec, now)
  if not bucket.ok then return {'rate_limited', int(now_ms), rate(spec, bucket.idle, bucket.retry_us)}, now end
  gcra_take(gcra_key, bucket.tat, now)
  return {'ok', int(now_ms), rate(spec, bucket.taken, 0)}, now
end

-- Which of the buckets of a histogram a duration falls into: eight for each doubling, as in core/usage.py.
local function bucket_of(ms)
  local part, doublings = math.frexp(math.max(1, ms))
  return doublings * 8 + math.floor((part * 2 - 1) * 8)
end

-- Add counts to a row of usage, a flat JSON object (cjson would round), in the hash of its period. Once that has as many rows as it may
-- have, further models are counted as 'other'. Usage is kept for 400 days after a period began.
local function tally(period_key, key_id, model, counts)
  local row = key_id .. '/' .. model
  local was = redis.call('HGET', period_key, row)
  if not was and redis.call('HLEN', period_key) >= 1000 then
    row = key_id .. '/other'
    was = redis.call('HGET', period_key, row)
  end
  local sums, names, out = {}, {}, {}
  for name, count in string.gmatch(was or '', '"([%w_]+)":(%-?%d+)') do sums[name] = tonumber(count) end
  for name, count in pairs(counts) do sums[name] = (sums[name] or 0) + count end
  for name in pairs(sums) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    if sums[name] ~= 0 then out[#out + 1] = '"' .. name .. '":' .. int(sums[name]) end
  end
  redis.call('HSET', period_key, row, '{' .. table.concat(out, ',') .. '}')
  if not was and redis.call('HLEN', period_key) == 1 then redis.call('PEXPIRE', period_key, 34560000000) end
end

-- Count in the day and in the month of some windows. `usage` is what the names of the tenant's periods begin with.
local function tally_both(usage, windows, key_id, model, counts)
  for _, kind in ipairs({'day', 'month'}) do
    tally(usage .. string.match(windows, kind .. ':([%d-]+)'), key_id, model, counts)
  end
end

-- Note the alert percentages that budgets have reached: each once a window, of several the highest. The field 'day' (...)
-- holds the last one, 'window/percent'; '!window/percent' is yet to be told (store/alerts.py): 'when ms:limit:spent:held',
-- then whether it was told, attempts at its webhook, and when the next one is due (ms).
local function warn(keys, windows)
  local t = redis.call('HMGET', keys.tenant, 'alerts', 'limit:day', 'limit:week', 'limit:month', 'limit:total')
  local i = 1
  for id in string.gmatch(windows, '[^,]+') do
    local kind, limit, reached = WINDOWS[i], tonumber(t[i + 1] or 0), 0
    i = i + 1
    local c = limit > 0 and redis.call('HMGET', keys.budget, id .. ':spent', id .. ':held')
    for percent in string.gmatch(c and (t[1] or '50 80 100') or '', '%d+') do
      local wanted = math.floor(limit / 100) * percent + math.ceil(limit % 100 * percent / 100)
      if (c[1] or 0) + (c[2] or 0) >= wanted then reached = tonumber(percent) end
    end
    local last, before = string.match(reached > 0 and redis.call('HGET', keys.alerts, kind) or '', '^(.*)/(%d+)$')
    if reached > 0 and (last ~= id or tonumber(before) < reached) then
      local said, now_ms = id .. '/' .. int(reached), int(math.floor(now_us() / 1000))
      redis.call('HSET', keys.alerts, kind, said, '!' .. said,
        table.concat({now_ms, int(limit), c[1] or '0', c[2] or '0', '0', '0', '0'}, ':'))
    end
  end
end

-- Book one movement of money: the counters of the job's windows (comma-separated ids), the ledger entry that says so,
-- and the usage. `j` maps the job's fields as they are after it; `spent` and `held` are what is added to the counters;
-- `counts` what besides is counted as usage. Balances in the entry are those of `total` after it.
local function book(keys, kind, job_id, j, spent, held, actor, counts)
  for id in string.gmatch(j.windows, '[^,]+') do
    if spent ~= 0 then redis.call('HINCRBY', keys.budget, id .. ':spent', int(spent)) end
    if held ~= 0 then redis.call('HINCRBY', keys.budget, id .. ':held', int(held)) end
  end
  local after = redis.call('HMGET', keys.budget, 'total:spent', 'total:held')
  local hold = math.abs(held)
  redis.call('XADD', keys.ledger, '*', 'seq', int(redis.call('HINCRBY', keys.budget, 'seq', 1)), 'kind', kind,
    'job', job_id, 'model', j.model or '', 'key', j.key or '', 'state', j.state, 'upstream', j.upstream_id or '',
    'amount', int((kind == 'hold' or kind == 'release') and hold or spent), 'hold', int(hold), 'windows', j.windows,
    'spent', after[1] or '0', 'held', after[2] or '0', 'actor', actor, 'labels', j.labels or '')
  if kind == 'hold' then
    warn(keys, j.windows)
  elseif spent + held > 0 then
    warn(keys, table.concat(windows_at(now_us()), ','))
  end
  counts.spent, counts.held = spent, held
  tally_both(keys.usage, j.windows, j.key or '', j.model or '', counts)
end

-- Fields of a job's record in the order in which every reply carries them; the same list as in store/records.py.
local FIELDS = {'id', 'state', 'kind', 'model', 'key', 'hold', 'created', 'fingerprint', 'upstream_id', 'upstream_key',
  'status', 'confirmed', 'accepted', 'finished', 'cost', 'estimated', 'error', 'code', 'result', 'request_id',
  'traceparent', 'webhook', 'labels', 'windows', 'missing', 'overdue'}

local function record(job_key)
  local values, j = redis.call('HMGET', job_key, unpack(FIELDS)), {}
  for i, name in ipairs(FIELDS) do j[name] = values[i] or nil end
  return j, values
end

-- Wake whoever waits for a job, in any process (store/waiters.py). Its key, {tenant}:job:id, says which one it is.
-- A user who may not publish there loses the wake-up, never the write: hence pcall.
local function announce(job_key)
  local tenant, job_id = string.match(job_key, '^{(.*)}:job:(.*)$')
  redis.pcall('PUBLISH', 'jobs', tenant .. '/' .. job_id)
end

-- Replies of every write after admission: {changed, the record as it then is}. What has changed is announced.
local function reply_job(changed, job_key)
  if changed == 1 then announce(job_key) end
  local _, values = record(job_key)
  return {changed, values}
end

-- What settle and release share: the new state, a free slot, and from now on the record grows old.
local function end_job(keys, job_id, state, ttl_ms, fields)
  redis.call('HSET', keys.job, 'state', state, 'finished', int(math.floor(now_us() / 1000)), unpack(fields))
  redis.call('PEXPIRE', keys.job, ttl_ms)
  redis.call('ZREM', keys.active, job_id)
  redis.call('HDEL', keys.sending, job_id)
end

-- A webhook that is owed: its receiver (host, with the port where the URL has one) and its job.
local function owed_member(job_id, url)
  return (string.match(url, '^https?://([^/?]*)') or '') .. '/' .. job_id
end

-- The end of a job with a webhook is owed to its receiver.
local function owe(owed_key, job_id, j)
  if not j.webhook then return end
  redis.call('ZADD', owed_key, int(math.floor(now_us() / 1000)), owed_member(job_id, j.webhook))
end

-- Remember whose a vendor's id is, for as long as the vendor's history can be asked for it.
local function own(upstream_key, job_id) redis.call('SET', upstream_key, job_id, 'PX', 2764800000) end

local function keep_result(keys, ttl_ms, fields)
  if #fields == 0 then return end
  redis.call('HSET', keys.result, unpack(fields))
  redis.call('PEXPIRE', keys.result, ttl_ms)
  redis.call('HSET', keys.job, 'result', '1')
end

-- Is `value` one of the space-separated `words`?
local function among(value, words) return string.find(' ' .. words .. ' ', ' ' .. value .. ' ', 1, true) ~= nil end

-- Does the model fit a pattern ('*' matches anything)? The pieces between stars are looked for one by one: with Lua's
-- own '.*' it would try every way to divide the model among them, and block the server for seconds.
local function fits(pattern, model)
  local first, rest = string.match(pattern, '^([^*]*)%*(.*)$')
  if not first then return pattern == model end
  local middle, last = string.match(rest, '^(.-)([^*]*)$')
  local at, stop = #first + 1, #model - #last
  if stop < #first or string.sub(model, 1, #first) ~= first or string.sub(model, stop + 1) ~= last then return false end
  for piece in string.gmatch(middle, '[^*]+') do
    local from, to = string.find(model, piece, at, true)
    if not from or to > stop then return false end
    at = to + 1
  end
  return true
end

-- Does one of the space-separated patterns fit the model? No patterns: every model does.
local function allows(patterns, model)
  if patterns == '' then return true end
  for pattern in string.gmatch(patterns, '%S+') do
    if fits(pattern, model) then return true end
  end
  return false
end

-- Does one of the space-separated patterns (host, host:port, *.host) fit one of the spellings of a host?
local function listed(patterns, spellings)
  for pattern in string.gmatch(patterns, '%S+') do
    local below = string.match(pattern, '^%*(%..*)$')
    for host in string.gmatch(spellings, '%S+') do
      if host == pattern then return true end
      if below and #host > #below and string.sub(host, -#below) == below then return true end
    end
  end
  return false
end

-- Where concurrency and budgets stand: {concurrent, active, then limit ('' = none), spent, held of each window}.
local function standing(tenant_key, budget_key, active_key, windows)
  local t = redis.call('HMGET', tenant_key, 'concurrent', 'limit:day', 'limit:week', 'limit:month', 'limit:total')
  local names = {}
  for _, id in ipairs(windows) do
    names[#names + 1] = id .. ':spent'
    names[#names + 1] = id .. ':held'
  end
  local c = redis.call('HMGET', budget_key, unpack(names))
  local out = {t[1], redis.call('ZCARD', active_key)}
  for i = 1, 4 do
    out[#out + 1] = t[1 + i] or ''
    out[#out + 1] = c[2 * i - 1] or '0'
    out[#out + 1] = c[2 * i] or '0'
  end
  return out
end

-- Rows of usage of the periods that `args` lists from `first` on: for each {row, counts, row, counts, ...}.
local function usage_rows(usage, args, first)
  local out = {}
  for i = first, #args do
    local period_key = usage .. args[i]
    out[#out + 1] = redis.call('HGETALL', period_key)
  end
  return out
end

-- What the jobs that were admitted today, yesterday, ... spent and hold: of seven days, as in core/usage.py.
local function last_days(budget_key, now)
  local out = {}
  for back = 0, 6 do
    local id = windows_at(now - back * 86400000000)[1]
    local c = redis.call('HMGET', budget_key, id .. ':spent', id .. ':held')
    out[back + 1] = int((c[1] or 0) + (c[2] or 0))
  end
  return out
end
