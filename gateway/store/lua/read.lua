-- Read a job for its owner: key check, read limit and record in one trip.
-- KEYS 1 tenant 2 key 3 gcra:read 4 job 5 result
-- ARGV 1 digest of the secret 2 size from which on a result's body is read by `kept` instead ('' = none is wanted)
-- Reply {'ok' or a refusal code, now ms, rate, view, result fields {body, type, packed} or {'large'}}

-- What a job's owner is told of it; the same list as in store/records.py.
local VIEW = {'id', 'state', 'model', 'hold', 'created', 'status', 'upstream_id', 'confirmed', 'finished', 'cost',
  'error', 'result'}

local TENANT, KEY, GCRA, JOB, RESULT = unpack(KEYS)
local now = now_us()
local now_ms = int(math.floor(now / 1000))
local denied = authenticate(TENANT, KEY, ARGV[1], tonumber(now_ms))
if denied then return {denied, now_ms} end

local spec = redis.call('HGET', TENANT, 'read')
local bucket = gcra(GCRA, spec, now)
if not bucket.ok then return {'rate_limited', now_ms, rate(spec, bucket.idle, bucket.retry_us)} end
gcra_take(GCRA, bucket.tat, now)
local values = redis.call('HMGET', JOB, unpack(VIEW))
local result = {}
if ARGV[2] ~= '' then
  local large = redis.call('HSTRLEN', RESULT, 'body') >= tonumber(ARGV[2])
  result = large and {'large'} or redis.call('HMGET', RESULT, 'body', 'type', 'packed')
end
return {'ok', now_ms, rate(spec, bucket.taken, 0), values, result}
