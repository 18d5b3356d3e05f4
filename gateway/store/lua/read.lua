-- Read a job for its owner: key check, read limit and record in one trip.
-- KEYS 1 tenant 2 key 3 gcra:read 4 job 5 result
-- ARGV 1 digest of the secret 2 size from which on a result's body is read by `kept` instead ('' = none is wanted)
-- Reply {'ok' or a refusal code, now ms, rate, view, result fields {body, type, packed} or {'large'}}

-- What a job's owner is told of it; the same list as in store/records.py.
local VIEW = {'id', 'state', 'model', 'hold', 'created', 'status', 'upstream_id', 'confirmed', 'finished', 'cost',
  'error', 'result'}

local TENANT, KEY, GCRA, JOB, RESULT = unpack(KEYS)
local reply = enter(TENANT, KEY, GCRA, ARGV[1], 'read')
if reply[1] ~= 'ok' then return reply end

reply[4] = redis.call('HMGET', JOB, unpack(VIEW))
local result = {}
if ARGV[2] ~= '' then
  local large = redis.call('HSTRLEN', RESULT, 'body') >= tonumber(ARGV[2])
  result = large and {'large'} or redis.call('HMGET', RESULT, 'body', 'type', 'packed')
end
reply[5] = result
return reply
