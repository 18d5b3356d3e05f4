-- Give up a job's claim on a vendor's id.   KEYS 1 claim   ARGV 1 tenant/job   Reply 1, or 0 where it is not that job's
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
