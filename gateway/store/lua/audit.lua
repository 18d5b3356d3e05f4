-- Read a page of a tenant's ledger; with the last page all that the ledger accounts for, at the same moment.
-- KEYS 1 ledger 2 opening 3 budget 4 active 5 sending 6 what the names of the tenant's job records begin with (as in
--      page.lua) 7 usage
-- ARGV 1 entry id to go on after, '' = from the first 2 entries at most, then periods of usage to read
-- Reply {now ms, opening, entries, then on the last page: budget, {active job, its state, hold, ...}, sending jobs, rows of each
--       period}
local LEDGER, OPENING, BUDGET, ACTIVE, SENDING, RECORDS, USAGE = unpack(KEYS)
local now_ms = int(math.floor(now_us() / 1000))
local entries = redis.call('XRANGE', LEDGER, ARGV[1] == '' and '-' or '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local opening = redis.call('HGETALL', OPENING)
if #entries == tonumber(ARGV[2]) then return {now_ms, opening, entries} end
local active = {}
for _, id in ipairs(redis.call('ZRANGE', ACTIVE, 0, -1)) do
  local j, n = redis.call('HMGET', RECORDS .. id, 'state', 'hold'), #active
  active[n + 1], active[n + 2], active[n + 3] = id, j[1] or '', j[2] or ''
end
return {now_ms, opening, entries, redis.call('HGETALL', BUDGET), active, redis.call('HKEYS', SENDING),
  usage_rows(USAGE, ARGV, 3)}
