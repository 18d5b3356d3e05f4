-- Count requests that were refused at admission in the usage of today and of this month.
-- KEYS 1 usage   ARGV of each count: key id, model, code, how many   Reply 1
local windows = table.concat(windows_at(now_us()), ',')
for i = 1, #ARGV, 4 do
  tally_both(KEYS[1], windows, ARGV[i], ARGV[i + 1], {['refused_' .. ARGV[i + 2]] = ARGV[i + 3]})
end
return 1
