-- Fold the oldest ledger entries into the opening balance, so that a replay from there stays exact.
-- KEYS 1 ledger 2 opening 3 budget   ARGV 1 ms for which entries are kept 2 how many are kept 3 entries at most
-- Reply how many were folded
local LEDGER, OPENING, BUDGET = unpack(KEYS)
local cutoff_ms = math.floor(now_us() / 1000) - ARGV[1]
local old = redis.call('XRANGE', LEDGER, '-', '(' .. int(cutoff_ms), 'COUNT', ARGV[3])
local too_many = math.min(ARGV[3], redis.call('XLEN', LEDGER) - ARGV[2])
if #old < too_many then old = redis.call('XRANGE', LEDGER, '-', '+', 'COUNT', int(too_many)) end
if #old == 0 then return 0 end

local function add(field, amount)
  if amount ~= 0 then redis.call('HINCRBY', OPENING, field, int(amount)) end
end
for _, entry in ipairs(old) do
  local e = {}
  for i = 1, #entry[2], 2 do e[entry[2][i]] = entry[2][i + 1] end
  for id in string.gmatch(e.windows, '[^,]+') do
    if e.kind ~= 'hold' and e.kind ~= 'release' then add(id .. ':spent', tonumber(e.amount)) end
    add(id .. ':held', e.kind == 'hold' and tonumber(e.hold) or -e.hold)
  end
  if e.kind == 'hold' then redis.call('HSET', OPENING, 'job:' .. e.job, e.hold) end
  if e.kind == 'settle' or e.kind == 'release' then redis.call('HDEL', OPENING, 'job:' .. e.job) end
  redis.call('HSET', OPENING, 'seq', e.seq)
  local day = string.match(e.windows, 'day:([%d-]+)')
  if day > (redis.call('HGET', OPENING, 'day') or '') then redis.call('HSET', OPENING, 'day', day) end
end
local last = old[#old][1]
redis.call('HSET', OPENING, 'last', last)
local ms, n = string.match(last, '^(%d+)-(%d+)$')
redis.call('XTRIM', LEDGER, 'MINID', ms .. '-' .. int(n + 1))

-- A window that was over by then, and whose every movement is folded, is not asked for again.
local current = windows_at(cutoff_ms * 1000)
local is_over = {}
for _, field in ipairs(redis.call('HKEYS', OPENING)) do
  local id = string.match(field, '^(.*):%a+$')
  for i = 1, 3 do
    if id and string.find(id, WINDOWS[i] .. ':', 1, true) == 1 and id < current[i] then is_over[id] = true end
  end
end
for id in pairs(is_over) do
  local a = redis.call('HMGET', OPENING, id .. ':spent', id .. ':held')
  local b = redis.call('HMGET', BUDGET, id .. ':spent', id .. ':held')
  if (a[2] or '0') == '0' and (b[2] or '0') == '0' and (a[1] or '0') == (b[1] or '0') then
    redis.call('HDEL', OPENING, id .. ':spent', id .. ':held')
    redis.call('HDEL', BUDGET, id .. ':spent', id .. ':held')
  end
end
return #old
