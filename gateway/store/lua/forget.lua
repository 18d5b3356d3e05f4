-- Take jobs that have ended out of one shard.   KEYS 1 due queue   ARGV members   Reply how many there were
return redis.call('ZREM', KEYS[1], unpack(ARGV))
