-- Lease webhooks of a tenant that are due. Those of held receivers are put off, so that no others stand behind them;
-- those of receivers that have enough under way are passed over.
-- KEYS 1 owed 2 held
-- ARGV 1 at most 2 at most to one receiver 3 lease ms, then pairs: receiver, webhooks under way to it
-- Reply {ms until the next is due ('' = nothing is owed), '1' = more may be due behind those looked at, member, ...}
local OWED, HELD, PAGE, PAGES = KEYS[1], KEYS[2], 256, 16
local most, each, lease_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local now_ms = math.floor(now_us() / 1000)
local under_way, held = {}, {}
for i = 4, #ARGV, 2 do under_way[ARGV[i]] = tonumber(ARGV[i + 1]) end

redis.call('ZREMRANGEBYSCORE', HELD, '-inf', int(now_ms))
local taken, put_off, passed = {}, 0, 0
local function look_at(member)
  local receiver = string.match(member, '^([^/]*)/')
  if held[receiver] == nil then held[receiver] = redis.call('ZSCORE', HELD, receiver) end
  local count = under_way[receiver] or 0
  if held[receiver] then
    redis.call('ZADD', OWED, held[receiver], member)
    put_off = put_off + 1
  elseif count < each and #taken < most then
    redis.call('ZADD', OWED, int(now_ms + lease_ms), member)
    under_way[receiver], taken[#taken + 1] = count + 1, member
  else
    passed = passed + 1
  end
end
local due
for _ = 1, PAGES do
  due = redis.call('ZRANGE', OWED, '-inf', int(now_ms), 'BYSCORE', 'LIMIT', int(passed), PAGE)
  for _, member in ipairs(due) do look_at(member) end
  if #due < PAGE or #taken == most then break end
end
local first = redis.call('ZRANGE', OWED, 0, 0, 'WITHSCORES')
local next_ms = first[2] and int(math.max(0, first[2] - now_ms)) or ''
return {next_ms, #due == PAGE and put_off > 0 and #taken == 0 and '1' or '', unpack(taken)}
