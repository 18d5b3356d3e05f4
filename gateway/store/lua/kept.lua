-- Read a job's result.   KEYS 1 result   Reply {body, content type, how it is packed, headers}
return redis.call('HMGET', KEYS[1], 'body', 'type', 'packed', 'headers')
