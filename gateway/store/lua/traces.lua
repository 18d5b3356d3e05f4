-- Say which vendor ids a tenant's jobs have, and which jobs with some inputs have none yet: both at one moment.
-- KEYS 1 sending 2 what the names of the tenant's job records begin with (as in unknown.lua) 3... vendor's ids
-- ARGV fingerprints
-- Reply {job of each vendor's id or '', ...}, {fingerprint of each of these or '', ...}, {job, fingerprint, created ms, ...},
--   {company key that each of these was sent with or '', ...}
local RECORDS = KEYS[2]
local owners, prints, without, sent_with = {}, {}, {}, {}
for i = 3, #KEYS do
  local id = redis.call('GET', KEYS[i])
  local j = id and redis.call('HMGET', RECORDS .. id, 'fingerprint', 'upstream_key') or {}
  owners[i - 2], prints[i - 2], sent_with[i - 2] = id or '', j[1] or '', j[2] or ''
end
local wanted = {}
for _, fingerprint in ipairs(ARGV) do wanted[fingerprint] = true end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local j = redis.call('HMGET', RECORDS .. id, 'fingerprint', 'created')
  if wanted[j[1]] then
    local n = #without
    without[n + 1], without[n + 2], without[n + 3] = id, j[1], j[2]
  end
end
return {owners, prints, without, sent_with}
