-- Say whether a caller may do anything at all; counts against no limit.
-- KEYS 1 tenant 2 key   ARGV 1 digest of the secret   Reply 'ok' or a refusal code
return authenticate(KEYS[1], KEYS[2], ARGV[1], math.floor(now_us() / 1000), 'submit') or 'ok'
