-- Read a job's record.   KEYS 1 job   Reply record
local _, values = record(KEYS[1])
return values
